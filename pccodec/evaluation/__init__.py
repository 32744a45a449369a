"""Evaluation: distortion metrics, rate–distortion curves, BD-rate, plots."""
