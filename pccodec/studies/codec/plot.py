"""The study in one picture: curves of the main arms, and what each arm costs against the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pccodec.studies.codec.arms import SEPARATE
from pccodec.studies.codec.results import BASELINE, QUALITIES, Results

_STYLES = {
    BASELINE: ("#000000", "o"),
    "both": ("#0072B2", "s"),
    "geometric": ("#009E73", "^"),
    "matryoshka": ("#D55E00", "v"),
    "longer": ("#E69F00", "P"),
    SEPARATE: ("#CC79A7", "D"),
}
_TITLES = {
    "plain": "plain",
    "rescaled": "rescaling",
    "masked": "masked optimizer",
    "both": "both",
    "geometric": "geometric prefixes",
    "matryoshka": "all prefixes summed",
    "distortion_only": "rescaling of distortion only",
    "longer": "five times the budget",
    "matryoshka_longer": "all summed, equal steps",
    SEPARATE: "separate models",
}


def plot(results: Results, file: Path) -> None:
    """Draw the runs to a file; the suffix chooses PNG, PDF or SVG."""
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    curves, bars = figure.subplots(1, 2)
    _draw_curves(curves, results)
    _draw_costs(bars, results.summary().get("against_plain", {}))
    figure.savefig(file, dpi=160)


def _draw_curves(axis: Axes, results: Results) -> None:
    for name, runs in results.families().items():
        if name not in _STYLES:
            continue
        colour, marker = _STYLES[name]
        rate, quality = results.mean_curve(runs, QUALITIES[0])
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2}
        axis.plot(rate, quality, label=_TITLES[name], **style)
    axis.set_xlabel("bits a stride-8 node, base layer and ranks")
    axis.set_ylabel("D1 PSNR of the cells of stride 4 (dB)")
    axis.legend(frameon=False, fontsize=8)
    axis.grid(True, color="#dddddd", linewidth=0.6)


def _draw_costs(axis: Axes, arms: dict[str, Any]) -> None:
    """A row an arm: its runs as dots, their mean as a stroke."""
    order = [name for name in reversed(_TITLES) if name in arms]
    for row, name in enumerate(order):
        found = arms[name][QUALITIES[0].name]
        known = [value for value in found["values"] if value is not None]
        axis.plot(known, [row] * len(known), "o", color="#0072B2", markersize=4, alpha=0.7)
        if found["mean"] is not None:
            axis.plot([found["mean"]], [row], "|", color="#D55E00", markersize=16, markeredgewidth=2)
    axis.set_yticks(range(len(order)), [_TITLES[name] for name in order])
    axis.axvline(0.0, color="#888888", linewidth=0.8)
    axis.set_xlabel("BD-rate against plain (%), lower is better")
    axis.grid(True, axis="x", color="#dddddd", linewidth=0.6)
