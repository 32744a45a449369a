"""Sparse convolutions on octree levels: the one place that knows how they are done."""
