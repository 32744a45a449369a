"""The results page: ``python -m pccodec.evaluation.page`` writes ``docs/results.md`` and its plots.

Everything on it comes from committed files: the report that ``pccodec eval --json`` wrote, the
tables of the anchors, and the resources that ``python -m pccodec.evaluation.resources`` measured.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from pccodec.errors import InputError
from pccodec.evaluation.anchors import AnchorPoint, Anchors, read_anchors
from pccodec.evaluation.bdrate import codec_curve
from pccodec.evaluation.command import command
from pccodec.evaluation.curves import RdCurve
from pccodec.evaluation.plot import Metric, display_name, plot_curves
from pccodec.evaluation.report import Comparison, Report, from_json
from pccodec.io import atomic_write

DOCS = Path(__file__).parents[2] / "docs"

PLOTS: tuple[Metric, ...] = ("d1", "d2")

_NOTHING = "–"


@command
def main(arguments: list[str] | None = None) -> None:
    """Write the page and its plots from committed measurements."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    results = DOCS / "results"
    parser.add_argument("--json", type=Path, default=results / "eval.json", help="report of pccodec eval")
    parser.add_argument(
        "--anchors", type=Path, action="append", metavar="CSV", help="default: docs/results/anchors/*.csv"
    )
    parser.add_argument("--resources", type=Path, default=results / "resources.json", help="may be missing")
    parser.add_argument(
        "-o", "--output", type=Path, default=DOCS / "results.md", help="plots stand beside it"
    )
    options = parser.parse_args(arguments)
    write_page(
        from_json(_read(options.json)),
        read_anchors(options.anchors or sorted((results / "anchors").glob("*.csv"))),
        json.loads(_read(options.resources)) if options.resources.exists() else None,
        options.output,
    )


def write_page(report: Report, anchors: Anchors, resources: dict[str, Any] | None, output: Path) -> None:
    """Write the page to ``output``, and the plots ``rd_d1.png`` and ``rd_d2.png`` beside it.

    Args:
        report: what was measured of this codec.
        anchors: the other codecs' points.
        resources: what ``pccodec.evaluation.resources`` wrote, or None.
        output: the page.
    """
    for metric in PLOTS:
        plot_curves(report.curves, anchors, output.parent / f"rd_{metric}.png", metric)
    with atomic_write(output) as file:
        file.write(page(report, anchors, resources).encode())


def page(report: Report, anchors: Anchors, resources: dict[str, Any] | None) -> str:
    """The page's Markdown."""
    sections = [
        "# Results",
        _origin(report),
        "## Where pccodec loses",
        _losses(report, anchors),
        "## BD-rates",
        "Bytes that the one stream needs more (+) or fewer (−) than files of another codec at equal quality. "
        "The stream is cut at the ends of its layers and all its bytes count; each file of the other codecs "
        "was made for one quality. Means count every cloud alike; where fewer clouds of the group have a "
        "codec, their number stands behind the mean.",
        _rate_table(report),
        "## Lossless",
        "The whole stream against the lossless file of the other codec.",
        _lossless_table(report, anchors),
        "## Time and memory",
        _costs(report, anchors, resources),
        "## Curves",
        "The line is one file, its dots the ends of its layers; each hollow mark is a file of its own.",
        *(f"![{metric.upper()} PSNR over bits per input point](rd_{metric}.png)" for metric in PLOTS),
    ]
    return "\n\n".join(sections) + "\n"


def _origin(report: Report) -> str:
    models = ", ".join(dict.fromkeys(curve.model_id for curve in report.curves))
    source = f"commit {report.commit}" if report.commit else "an unknown commit"
    command = f" by\n\n```sh\n{report.command}\n```" if report.command else "."
    return (
        "Written by `python -m pccodec.evaluation.page` from the files in [results/](results/).\n"
        f"Measured with pccodec {report.version}, {source}, model {models}{command}"
    )


def _losses(report: Report, anchors: Anchors) -> str:
    """Every number on the page that speaks against the codec, as a list."""
    lines = []
    for curve in report.curves:
        for values in (c for c in report.comparisons if c.cloud == curve.cloud):
            for rate, what in (
                (values.bd_rate_d1, "D1 BD-rate"),
                (values.bd_rate_d2, "D2 BD-rate"),
                (values.lossless_rate, "lossless size"),
            ):
                if rate > 0:
                    against = display_name(values.anchor)
                    lines.append(f"- {curve.cloud}: {what} against {against} {_percent(rate, 2)}.")
        for codec, points in anchors.get(curve.cloud, {}).items():
            if better := _better_files(curve, points):
                files = "; ".join(f"{p.d1_psnr:.2f} dB at {p.bpp:.4f} bpp, {_percent(r)}" for p, r in better)
                lines.append(
                    f"- {curve.cloud}: the stream is larger than these files of {display_name(codec)} at "
                    f"their D1 PSNR, whatever the mean says: {files}."
                )
        if not curve.is_lossless:
            lines.append(f"- {curve.cloud}: the whole stream is not lossless.")
        if curve.largest_drop > 0:
            lines.append(f"- {curve.cloud}: a longer prefix is {curve.largest_drop:.3f} dB worse in D1.")
    return "\n".join(lines + _slower(report.curves, anchors)) or "By no number on this page."


def _better_files(curve: RdCurve, points: Sequence[AnchorPoint]) -> list[tuple[AnchorPoint, float]]:
    """Files below the stream's curve, and by how many percent the stream is larger at their D1 PSNR."""
    ends = codec_curve([c.bpp for c in curve.layer_ends], [c.d1_psnr for c in curve.layer_ends])
    if len(ends) < 2:
        return []
    log_rate = PchipInterpolator(ends.psnr, np.log(ends.bpp), extrapolate=False)
    # Outside the curve's qualities the interpolation is NaN, and no file is counted.
    excess = [(point, 100 * (math.exp(log_rate(point.d1_psnr)) / point.bpp - 1)) for point in points]
    return [(point, percent) for point, percent in excess if percent > 0]


def _slower(curves: Sequence[RdCurve], anchors: Anchors) -> list[str]:
    """A line for each codec that encodes or decodes faster, over the clouds that it has times of."""
    lines = []
    for codec in _codecs(anchors, curves):
        shared = [curve for curve in curves if codec in anchors.get(curve.cloud, {})]
        for verb, own, other in (
            ("encoding", lambda c: c.encode_seconds, "encode_seconds"),
            ("decoding the whole stream", lambda c: c.cuts[-1].decode_seconds, "decode_seconds"),
        ):
            theirs = _mean(_mean(getattr(p, other) for p in anchors[curve.cloud][codec]) for curve in shared)
            ours = _mean(own(curve) for curve in shared)
            if ours > theirs:
                lines.append(
                    f"- Time: {verb} takes {ours:.2f} s in the mean, a file of {display_name(codec)} "
                    f"{theirs:.2f} s."
                )
    return lines


def _rate_table(report: Report) -> str:
    codecs = list(dict.fromkeys(c.anchor for c in report.comparisons))
    metrics: tuple[tuple[str, Callable[[Comparison], float]], ...] = (
        ("D1", lambda c: c.bd_rate_d1),
        ("D2", lambda c: c.bd_rate_d2),
    )
    found = {(c.cloud, c.anchor): c for c in report.comparisons}
    rows = []
    for curve in report.curves:
        cells = [
            _percent(value(found[curve.cloud, codec])) if (curve.cloud, codec) in found else _NOTHING
            for _, value in metrics
            for codec in codecs
        ]
        rows.append([curve.cloud, f"{curve.points_in:,}", *cells])
    for group in dict.fromkeys(mean.cloud for mean, _ in report.means):
        of_codec = {mean.anchor: (mean, count) for mean, count in report.means if mean.cloud == group}
        size = max(count for _, count in of_codec.values())
        cells = []
        for _, value in metrics:
            for codec in codecs:
                mean, count = of_codec.get(codec, (None, 0))
                behind = f" ({count})" if count < size else ""
                cells.append(f"**{_percent(value(mean))}**{behind}" if mean else _NOTHING)
        rows.append([_group_label(group, size), "", *cells])
    heads = [f"{metric} {display_name(codec)}" for metric, _ in metrics for codec in codecs]
    return _table(["cloud", "points", *heads], rows)


def _lossless_table(report: Report, anchors: Anchors) -> str:
    found = [c for c in report.comparisons if not math.isnan(c.lossless_rate)]
    curves = {curve.cloud: curve for curve in report.curves}
    rows = []
    for values in found:
        curve = curves[values.cloud]
        whole = curve.cuts[-1]
        other = [p.bpp for p in anchors.get(values.cloud, {}).get(values.anchor, []) if p.is_lossless]
        rows.append(
            [
                values.cloud,
                display_name(values.anchor),
                f"{whole.size:,}",
                f"{whole.bpp:.4f}",
                f"{min(other):.4f}" if other else _NOTHING,
                _percent(values.lossless_rate),
            ]
        )
    for mean, count in report.means:
        if not math.isnan(mean.lossless_rate):
            label = _group_label(mean.cloud, count)
            rows.append([label, display_name(mean.anchor), "", "", "", f"**{_percent(mean.lossless_rate)}**"])
    return _table(["cloud", "against", "bytes", "bpp", "bpp of the other", "difference"], rows, left=2)


def _costs(report: Report, anchors: Anchors, resources: dict[str, Any] | None) -> str:
    text = [
        "CPU seconds of the codec inside a running Python, and those of the other codecs from their tables, "
        "the mean over a cloud's files. Where a head says so, the latter are seconds of the clock."
    ]
    codecs = _codecs(anchors, report.curves)
    heads = ["cloud", "encode", "decode, whole", "decode, slowest cut"]
    for codec in codecs:
        wall = any(p.is_wall_time for points in anchors.values() for p in points.get(codec, []))
        heads += [
            f"{display_name(codec)} {verb}{' (clock)' if wall else ''}" for verb in ("encode", "decode")
        ]
    rows = []
    for curve in report.curves:
        decode = [cut.decode_seconds for cut in curve.cuts]
        row = [curve.cloud, *(f"{s:.1f}" for s in (curve.encode_seconds, decode[-1], max(decode)))]
        for codec in codecs:
            points = anchors.get(curve.cloud, {}).get(codec, [])
            row += [_seconds(p.encode_seconds for p in points), _seconds(p.decode_seconds for p in points)]
        rows.append(row)
    text.append(_table(heads, rows))
    memory = [
        f"{display_name(codec)} held up to {max(peaks):,.0f} MB"
        for codec in codecs
        if (peaks := _peaks(anchors, codec, report.curves))
    ]
    if resources:
        text.append(_resource_table(resources))
    if memory:
        text.append("Memory of the other codecs, as far as their tables have it: " + "; ".join(memory) + ".")
    return "\n\n".join(text)


def _resource_table(resources: dict[str, Any]) -> str:
    rows = []
    try:
        for cloud in resources["clouds"]:
            cells = [cloud["cloud"]]
            for run in ("encode", "decode", "decode_base"):
                cells += [f"{cloud[run]['cpu_seconds']:.1f}", f"{cloud[run]['peak_mb']:,.0f}"]
            rows.append(cells)
        source = resources["commit"]
    except (KeyError, TypeError) as error:
        raise InputError(f"this is no report of pccodec.evaluation.resources: {error!r}") from error
    runs = ("encode", "decode, whole", "decode, to stride 8")
    heads = ["cloud", *(f"{run}: {unit}" for run in runs for unit in ("s", "MB"))]
    return (
        f"As commands with one thread, start of Python included (commit {source}): CPU seconds, and the most "
        "memory that the process held.\n\n" + _table(heads, rows)
    )


def _codecs(anchors: Anchors, curves: Sequence[RdCurve]) -> list[str]:
    return list(dict.fromkeys(codec for curve in curves for codec in anchors.get(curve.cloud, {})))


def _peaks(anchors: Anchors, codec: str, curves: Sequence[RdCurve]) -> list[float]:
    points = (p for curve in curves for p in anchors.get(curve.cloud, {}).get(codec, []))
    return [p.peak_mb for p in points if not math.isnan(p.peak_mb)]


def _group_label(group: str, count: int) -> str:
    return f"**mean of all {count}**" if group == "mean" else f"**mean of {count} {group}**"


def _seconds(values: Iterable[float]) -> str:
    mean = _mean(values)
    return _NOTHING if math.isnan(mean) else f"{mean:.1f}"


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def _percent(value: float, digits: int = 1) -> str:
    return _NOTHING if math.isnan(value) else f"{value:+.{digits}f} %".replace("-", "−")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    rule = ["---" if number < left else "---:" for number in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path.name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
