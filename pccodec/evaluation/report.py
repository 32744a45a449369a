"""Comparison of curves with anchors, and the JSON and CSV files that hold the results."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pccodec.errors import InputError
from pccodec.evaluation.anchors import AnchorPoint, Anchors
from pccodec.evaluation.bdrate import anchor_curve, bd_psnr, bd_rate, codec_curve
from pccodec.evaluation.curves import RdCurve, RdPoint
from pccodec.evaluation.metrics import table_psnr

CODEC_NAME = "pccodec"


@dataclass(frozen=True)
class Comparison:
    """One cloud's curve, or the mean of several, against one anchor codec.

    NaN where there is nothing to compare: curves that do not overlap, or a lossy anchor.

    Attributes:
        cloud: the cloud, or the name of a group.
        anchor: the anchor codec.
        bd_rate_d1, bd_rate_d2: percent; negative is better.
        bd_psnr_d1, bd_psnr_d2: dB; positive is better.
        lossless_rate: size of the whole stream against the anchor's lossless file, percent;
            negative is better.
    """

    cloud: str
    anchor: str
    bd_rate_d1: float
    bd_psnr_d1: float
    bd_rate_d2: float
    bd_psnr_d2: float
    lossless_rate: float


_VALUES = ("bd_rate_d1", "bd_psnr_d1", "bd_rate_d2", "bd_psnr_d2", "lossless_rate")


@dataclass(frozen=True)
class Report:
    """What ``to_json`` wrote.

    Attributes:
        version: the codec's version.
        commit: commit of its source; None if unknown.
        command: the command that measured; None in files that do not name it.
        curves: one a cloud.
        comparisons: of single clouds.
        means: of groups of clouds, and how many clouds each covers.
    """

    version: str
    commit: str | None
    command: str | None
    curves: tuple[RdCurve, ...]
    comparisons: tuple[Comparison, ...]
    means: tuple[tuple[Comparison, int], ...]


def compare(curve: RdCurve, anchors: Anchors) -> list[Comparison]:
    """The layer ends of a curve against every anchor codec that has points of its cloud."""
    return [_compare_with(curve, codec, points) for codec, points in anchors.get(curve.cloud, {}).items()]


def group_means(
    comparisons: Sequence[Comparison], groups: Mapping[str, Sequence[str]]
) -> list[tuple[Comparison, int]]:
    """Means of each value over the clouds of each group that have the anchor, by anchor.

    A mean is NaN where any of these clouds lacks the value, lest it leave out the worst.

    Args:
        comparisons: of single clouds.
        groups: patterns of cloud names, as of a shell, by name of the group.

    Returns:
        Means and the number of clouds in the group that have this anchor.
    """
    means = []
    for name, patterns in groups.items():
        members = [c for c in comparisons if any(fnmatch.fnmatchcase(c.cloud, p) for p in patterns)]
        for anchor in dict.fromkeys(c.anchor for c in members):
            of_anchor = [c for c in members if c.anchor == anchor]
            values = {key: _mean([getattr(c, key) for c in of_anchor]) for key in _VALUES}
            means.append((Comparison(name, anchor, **values), len(of_anchor)))
    return means


def to_json(
    curves: Sequence[RdCurve],
    comparisons: Sequence[Comparison],
    means: Sequence[tuple[Comparison, int]],
    version: str,
    command: str | None = None,
) -> str:
    """Everything measured, with the codec's version, the command, and the commit of the source if known.

    Lossless PSNRs are 99.99, values that do not exist null.
    """
    document = {
        "codec": CODEC_NAME,
        "version": version,
        "commit": source_commit(),
        "command": command,
        "clouds": [
            {**_plain(asdict(curve)), "is_lossless": curve.is_lossless, "largest_drop": curve.largest_drop}
            for curve in curves
        ],
        "comparisons": [_plain(asdict(c)) for c in comparisons],
        "means": [{"clouds": count, **_plain(asdict(mean))} for mean, count in means],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report that ``to_json`` wrote; fields that are unknown here are ignored.

    Raises:
        InputError: the text is no such report.
    """
    try:
        document = json.loads(text)
        curves = []
        for cloud in document["clouds"]:
            cuts = tuple(_record(RdPoint, {**cut, **_infinite(cut)}) for cut in cloud["cuts"])
            curves.append(_record(RdCurve, {**cloud, "cuts": cuts}))
        means = [(_record(Comparison, mean), int(mean["clouds"])) for mean in document["means"]]
        return Report(
            version=document["version"],
            commit=document.get("commit"),
            command=document.get("command"),
            curves=tuple(curves),
            comparisons=tuple(_record(Comparison, row) for row in document["comparisons"]),
            means=tuple(means),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"this is no report of pccodec eval: {error!r}") from error


def to_csv(curves: Sequence[RdCurve]) -> str:
    """One row a cut, in the columns of anchor tables and a few more; ``param`` is the layer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["cloud", "points", "codec", "param", "bpp", "d1_psnr", "d2_psnr", "enc_cpu_s", "dec_cpu_s"]
        + ["points_out", "bytes", "layers", "is_layer_end", "d1_mse", "d2_mse", "peak", "model_id"]
    )
    for curve in curves:
        for cut in curve.cuts:
            writer.writerow(
                [
                    curve.cloud,
                    curve.points_in,
                    CODEC_NAME,
                    cut.layer,
                    f"{cut.bpp:.5f}",
                    f"{table_psnr(cut.d1_psnr):.3f}",
                    f"{table_psnr(cut.d2_psnr):.3f}",
                    f"{curve.encode_seconds:.2f}",
                    f"{cut.decode_seconds:.2f}",
                    cut.points_out,
                    cut.size,
                    cut.layers,
                    int(cut.is_layer_end),
                    f"{cut.d1_mse:.9g}",
                    f"{cut.d2_mse:.9g}",
                    f"{curve.peak:.9g}",
                    curve.model_id,
                ]
            )
    return text.getvalue()


def source_commit() -> str | None:
    """Short hash of the checked-out commit, with ``-dirty`` after changes; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def _compare_with(curve: RdCurve, codec: str, points: Sequence[AnchorPoint]) -> Comparison:
    def deltas(quality: Callable[[Any], float]) -> tuple[float, float]:
        anchor = anchor_curve([p.bpp for p in points], [quality(p) for p in points])
        test = codec_curve([c.bpp for c in curve.layer_ends], [quality(c) for c in curve.layer_ends])
        return bd_rate(anchor, test), bd_psnr(anchor, test)

    d1, d2 = deltas(lambda point: point.d1_psnr), deltas(lambda point: point.d2_psnr)
    lossless = min((p.bpp for p in points if p.is_lossless), default=math.nan)
    whole = curve.cuts[-1].bpp if curve.is_lossless else math.nan
    return Comparison(curve.cloud, codec, *d1, *d2, lossless_rate=100 * (whole / lossless - 1))


_Record = TypeVar("_Record", RdCurve, RdPoint, Comparison)


def _record(kind: type[_Record], row: Mapping[str, Any]) -> _Record:
    """A dataclass from its fields in a row; null is NaN."""
    values: dict[str, Any] = {f.name: math.nan if row[f.name] is None else row[f.name] for f in fields(kind)}
    return kind(**values)


def _infinite(cut: Mapping[str, Any]) -> dict[str, float]:
    """PSNRs of a cut, infinite where tables have ``LOSSLESS_PSNR`` for an error of zero."""
    return {f"{d}_psnr": math.inf if cut[f"{d}_mse"] == 0 else cut[f"{d}_psnr"] for d in ("d1", "d2")}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else table_psnr(value)
    return value
