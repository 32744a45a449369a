"""Rate–distortion plots: one panel a cloud, one continuous line for the embedded stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pccodec.evaluation.anchors import AnchorPoint, Anchors
from pccodec.evaluation.curves import RdCurve
from pccodec.evaluation.report import CODEC_NAME
from pccodec.io import atomic_write

Metric = Literal["d1", "d2"]

# Okabe and Ito's palette, told apart with every kind of colour vision; shapes differ as well.
_CODEC_COLOUR = "#0072B2"
_ANCHOR_STYLES = (
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
)

_DISPLAY_NAMES = {"gpcc-octree": "G-PCC octree", "gpcc-trisoup": "G-PCC trisoup", "pcgcv2": "PCGCv2"}
"""Names in print of codecs that anchor tables abbreviate; others are shown as they are."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "savefig.dpi": 200,
}

_STROKE = 0.1
"""Height of the marks of lossless files, as a share of the axis."""

_HEADROOM = 5.0
"""Most dB that the axis shows above the last layer end and the anchors."""

_LOWEST_PSNR = 45.0
"""Below this a cloud is a few coarse blocks and no codec is of interest."""


def display_name(codec: str) -> str:
    """Name in print of a codec of an anchor table."""
    return _DISPLAY_NAMES.get(codec, codec)


def plot_curves(curves: Sequence[RdCurve], anchors: Anchors, path: Path, metric: Metric = "d1") -> None:
    """Draw the curves beside their anchors to a file; the suffix chooses PNG, PDF or SVG.

    Args:
        curves: one curve a panel, at least one.
        anchors: points of other codecs, by cloud and codec.
        path: the picture.
        metric: the PSNR of the vertical axis.
    """
    codecs = list(dict.fromkeys(codec for curve in curves for codec in anchors.get(curve.cloud, {})))
    styles = {codec: _ANCHOR_STYLES[i % len(_ANCHOR_STYLES)] for i, codec in enumerate(codecs)}
    columns = min(len(curves), 4 if len(curves) > 6 else 3)
    rows = math.ceil(len(curves) / columns)
    with matplotlib.rc_context(_STYLE):
        size = (5.6, 4.2) if len(curves) == 1 else (2.75 * columns + 0.4, 2.45 * rows + 0.75)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, curve in zip(axes, curves, strict=False):
            _draw_panel(axis, curve, anchors.get(curve.cloud, {}), styles, metric)
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        if len(curves) == 1:
            _name_geometry_layers(axes[0], curves[0], metric)
        figure.supxlabel("bits per input point", fontsize=9)
        figure.supylabel(f"{metric.upper()} PSNR (dB)", fontsize=9)
        handles = _legend(styles)
        per_row = len(handles) if columns > 2 else 2
        figure.legend(handles=handles, loc="outside upper center", ncols=per_row, frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format=path.suffix[1:] or "png")


def _draw_panel(
    axis: Axes,
    curve: RdCurve,
    anchors: dict[str, list[AnchorPoint]],
    styles: dict[str, tuple[str, str]],
    metric: Metric,
) -> None:
    axis.set_title(curve.cloud)
    lossy = [(cut, _quality(cut, metric)) for cut in curve.cuts if math.isfinite(_quality(cut, metric))]
    others = {codec: [p for p in points if _quality(p, metric) < 99] for codec, points in anchors.items()}
    shown = [(p.bpp, _quality(p, metric)) for points in others.values() for p in points]
    shown += [(cut.bpp, quality) for cut, quality in lossy if cut.is_layer_end]
    shown = [point for point in shown if point[1] >= _LOWEST_PSNR] or shown
    lossless = {codec: [p.bpp for p in points if p.is_lossless] for codec, points in anchors.items()}
    ticks = [(min(rates), styles[codec][0]) for codec, rates in lossless.items() if rates]
    if curve.is_lossless:
        ticks.append((curve.cuts[-1].bpp, _CODEC_COLOUR))
    stroke_foot = _set_axes(axis, shown, [quality for _, quality in lossy], [rate for rate, _ in ticks])
    for codec, points in others.items():
        rate, quality = [p.bpp for p in points], [_quality(p, metric) for p in points]
        axis.plot(rate, quality, zorder=2, **_marks(*styles[codec]))
    own: dict[str, Any] = {"color": _CODEC_COLOUR, "zorder": 3}
    axis.plot([cut.bpp for cut, _ in lossy], [quality for _, quality in lossy], linewidth=1.6, **own)
    for is_geometry, size in ((True, 4.0), (False, 2.2)):
        marked = [(c, q) for c, q in lossy if c.is_layer_end and c.layer.startswith("G") is is_geometry]
        axis.plot([c.bpp for c, _ in marked], [q for _, q in marked], "o", markersize=size, **own)
    if curve.is_lossless and lossy:
        # The same file goes on; dotted, as its quality leaves the scale.
        last, reached = lossy[-1]
        heights = [reached, max(reached, stroke_foot)]
        axis.plot([last.bpp, curve.cuts[-1].bpp], heights, ":", linewidth=1.2, **own)
    _mark_lossless(axis, ticks)


def _set_axes(
    axis: Axes,
    shown: Sequence[tuple[float, float]],
    qualities: Sequence[float],
    lossless_rates: Sequence[float],
) -> float:
    """Limits and grid around points (bpp, dB) and lossless rates; the height where strokes begin, in dB.

    ``qualities`` are of all cuts. Inside the last layer they climb without limit; the axis follows
    them a little way.
    """
    decibels = [decibel for _, decibel in shown] or [_LOWEST_PSNR]
    low, high = min(decibels), max(decibels)
    high = max(high, min(max(qualities, default=high), high + _HEADROOM))
    bottom, top = low - 1.5, high + 0.16 * (high - low) + 0.5
    axis.set_ylim(bottom, top)
    rates = [*(rate for rate, _ in shown), *lossless_rates] or [1.0]
    axis.set_xscale("log")
    axis.set_xlim(min(rates) / 1.25, max(rates) * 1.35)
    wide = max(rates) > 1000 * min(rates)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(True, color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    return top - _STROKE * (top - bottom)


def _mark_lossless(axis: Axes, ticks: list[tuple[float, str]]) -> None:
    """Short strokes at the top edge where a file has no error left, and their name beside them."""
    if not ticks:
        return
    for rate, colour in ticks:
        axis.axvline(rate, ymin=1 - _STROKE, ymax=1, color=colour, linewidth=2, zorder=5)
    axis.annotate(
        "lossless",
        xy=(min(rate for rate, _ in ticks), 1 - _STROKE / 2),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8,
        color="#444444",
    )


def _name_geometry_layers(axis: Axes, curve: RdCurve, metric: Metric) -> None:
    """Names at the markers of whole geometry layers, where a single panel leaves the room."""
    low = axis.get_ylim()[0]
    for cut in curve.layer_ends:
        quality = _quality(cut, metric)
        if cut.layer.startswith("G") and low < quality < math.inf:
            axis.annotate(
                cut.layer,
                xy=(cut.bpp, quality),
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=_CODEC_COLOUR,
            )


def _legend(styles: dict[str, tuple[str, str]]) -> list[Line2D]:
    own = Line2D([], [], color=_CODEC_COLOUR, linewidth=1.6, marker="o", markersize=4)
    own.set_label(f"{CODEC_NAME} (one file)")
    others = [
        Line2D([], [], label=f"{display_name(codec)} (a file each)", **_marks(*style))
        for codec, style in styles.items()
    ]
    return [own, *others]


def _marks(colour: str, marker: str) -> dict[str, Any]:
    """Line properties of an anchor: hollow markers, as each is a file of its own."""
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": 4.5,
        "markerfacecolor": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 1.2,
    }


def _quality(point: object, metric: Metric) -> float:
    return float(getattr(point, f"{metric}_psnr"))
