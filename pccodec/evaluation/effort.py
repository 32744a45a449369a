"""What each effort of the encoder costs and gains.

``python -m pccodec.evaluation.effort CLOUD… --json FILE``

Each cloud is encoded with the efforts 1, 2 and 3. The streams are decoded at the ends of their layers and at
cuts inside the base layer, where milestones and the surplus of voxels act. BD-rates are against effort 1.
Between its layer ends a stream of effort 1 may stay as it is, so that of all streams a curve is drawn through
the most bytes that a quality takes: where a stream is cut is not the encoder's choice.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from pccodec import container, io
from pccodec.codec.effort import EFFORTS
from pccodec.evaluation.bdrate import bd_rate, codec_curve
from pccodec.evaluation.command import command
from pccodec.evaluation.curves import peak_of_cloud
from pccodec.evaluation.embedded import Pccodec
from pccodec.evaluation.metrics import Reference, psnr, table_psnr
from pccodec.evaluation.report import source_commit
from pccodec.evaluation.summary import clouds_parser
from pccodec.model import store

INNER = 16
"""Cuts inside the base layer, evenly spaced in log(bytes)."""


@dataclass(frozen=True)
class Measured:
    """One cloud encoded with one effort.

    Attributes:
        seconds: CPU seconds of encoding, all threads.
        size: bytes of the whole stream.
        base: bytes up to the end of the base layer.
        cuts: (bytes, D1 PSNR in dB), by bytes; without distortion 99.99 dB.
    """

    seconds: float
    size: int
    base: int
    cuts: tuple[tuple[int, float], ...]

    def until(self, size: float) -> tuple[list[int], list[float]]:
        """Bytes and dB of the cuts of at most ``size`` bytes."""
        kept = [cut for cut in self.cuts if cut[0] <= size]
        return [cut[0] for cut in kept], [cut[1] for cut in kept]


def plan(stream: container.Stream, inner: int) -> tuple[list[int], int]:
    """Sizes of the prefixes to decode, rising, and the bytes up to the end of the base layer.

    Args:
        stream: a parsed stream.
        inner: cuts inside the base layer, besides the ends of all layers.
    """
    ends = [layer.offset + layer.length for layer in stream.layers]
    coarse = [layer.spec.kind == "G" and layer.spec.level >= 3 for layer in stream.layers]
    base = max((end for end, is_coarse in zip(ends, coarse, strict=True) if is_coarse), default=ends[0])
    inside = np.geomspace(stream.header_size, base, inner + 2)[1:-1].astype(int).tolist()
    return sorted({*ends, *inside}), base


def measure(points: np.ndarray, codec: Pccodec, inner: int = INNER) -> Measured:
    """Encode points (n, 3) and decode at all cuts.

    Raises:
        PccodecError: the cloud cannot be encoded.
    """
    begin = time.process_time()
    data = codec.encode(points)
    seconds = time.process_time() - begin
    reference = Reference(points, peak=peak_of_cloud(points, codec.layout(data)))
    sizes, base = plan(container.parse(data), inner)
    errors = [reference.d1_mse(codec.decode(data, size)) for size in sizes]
    quality = [table_psnr(psnr(error, reference.peak)) for error in errors]
    return Measured(seconds, len(data), base, tuple(zip(sizes, quality, strict=True)))


def gain(anchor: Measured, test: Measured) -> dict[str, float | None]:
    """D1 BD-rates in percent of all cuts, and of those in the base layer; None where nothing overlaps."""
    found: dict[str, float | None] = {}
    for name, limits in (("bd_rate_d1", (math.inf, math.inf)), ("bd_rate_d1_base", (anchor.base, test.base))):
        rate = bd_rate(codec_curve(*anchor.until(limits[0])), codec_curve(*test.until(limits[1])))
        found[name] = None if math.isnan(rate) else round(rate, 2)
    return found


def measure_cloud(name: str, points: np.ndarray, model: str | None = None) -> list[dict[str, Any]]:
    """Rows of one cloud, points (n, 3), one for each effort, the least first."""
    rows: list[dict[str, Any]] = []
    anchor: Measured | None = None
    for effort in EFFORTS:
        found = measure(points, Pccodec(model=model, effort=effort))
        anchor = anchor or found
        row = {
            "cloud": name,
            "effort": effort,
            "encode_cpu_s": round(found.seconds, 2),
            "bytes": found.size,
            **(gain(anchor, found) if found is not anchor else {}),
            "cuts": [[size, round(quality, 3)] for size, quality in found.cuts],
        }
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each effort, all clouds together: CPU seconds and bytes in sum, and mean BD-rates."""
    means = []
    for effort in EFFORTS:
        own = [row for row in rows if row["effort"] == effort]
        mean = {"effort": effort, "encode_cpu_s": round(sum(row["encode_cpu_s"] for row in own), 2)}
        mean["bytes"] = sum(row["bytes"] for row in own)
        for name in ("bd_rate_d1", "bd_rate_d1_base"):
            rates = [row[name] for row in own if row.get(name) is not None]
            if rates:
                mean[name] = round(float(np.mean(rates)), 2)
        means.append(mean)
    return means


def _line(label: str, row: dict[str, Any]) -> str:
    rates = [
        f"{row[name]:+8.2f} %" for name in ("bd_rate_d1", "bd_rate_d1_base") if row.get(name) is not None
    ]
    return f"{label:20} {row['effort']} {row['encode_cpu_s']:8.2f} s {row['bytes']:12,} B {' '.join(rates)}"


@command
def main(arguments: list[str] | None = None) -> None:
    """Measure the clouds one after another; the file is written anew after each."""
    parser = clouds_parser(
        "Cost and gain of the encoder's efforts; BD-rates of all cuts, and in the base layer."
    )
    parser.add_argument("--model", help="name of a model, or path of its .safetensors file")
    options = parser.parse_args(arguments)
    # Loaded before the clock runs: the first encoding would pay for it alone.
    model = store.load(options.model or store.DEFAULT)
    rows: list[dict[str, Any]] = []
    for cloud in options.clouds:
        found = measure_cloud(cloud.stem, io.read(cloud).points, options.model)
        print(*(_line(cloud.stem, row) for row in found), sep="\n", flush=True)
        rows += found
        if options.json:
            report = {
                "commit": source_commit(),
                "model": model.name,
                "efforts": summary(rows),
                "clouds": rows,
            }
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(*(_line("all", row) for row in summary(rows)), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
