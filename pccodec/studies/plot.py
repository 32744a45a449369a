"""One picture of a hashing study: what the one scalable model costs at each length, by arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pccodec.studies.arms import LENGTHS

_COLOURS = {
    "uniform": "#0072B2",
    "geometric": "#009E73",
    "matryoshka": "#D55E00",
    "lengths": "#000000",
    "weighted": "#CC79A7",
}
_MARKERS = {"none": "o", "masked optimizer": "s", "rescaling": "^", "both": "D"}


def plot_costs(values: Mapping[str, Mapping[int, np.ndarray]], file: Path, title: str) -> None:
    """Draw each arm minus the separate models, seed by seed: means, with standard deviations as bars.

    Args:
        values: of each arm and length, (seeds,); "separate" among the arms.
        file: to draw; the suffix chooses PNG, PDF or SVG.
        title: what the values are.
    """
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    shown = [name for name in values if name != "separate"]
    for place, name in enumerate(shown):
        sampling, _, balance = name.partition(", ")
        costs = [values[name][bits] - values["separate"][bits] for bits in LENGTHS]
        shift = (place - (len(shown) - 1) / 2) * 0.065
        axis.errorbar(
            np.arange(len(LENGTHS)) + shift,
            [cost.mean() for cost in costs],
            [cost.std(ddof=1) if len(cost) > 1 else 0.0 for cost in costs],
            linestyle="none",
            marker=_MARKERS[balance],
            markersize=5,
            color=_COLOURS[sampling],
            elinewidth=1,
            label=name,
        )
    axis.axhline(0, color="#777777", linewidth=0.8)
    axis.set_xticks(np.arange(len(LENGTHS)), [f"{bits} bits" for bits in LENGTHS])
    axis.set_ylabel(f"{title}: scalable − separate")
    axis.grid(True, axis="y", color="#dddddd", linewidth=0.6)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(file, dpi=160)
