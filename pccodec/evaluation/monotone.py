"""Whether quality rises with the bytes: ``python -m pccodec.evaluation.monotone CLOUD… --json FILE``.

Each cloud is encoded once and decoded at cuts drawn at random, half of them uniform in bytes
and half in their logarithm, so that the first layers, a hundredth of the stream, have many too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pccodec import Decoder, container, io
from pccodec.evaluation.command import command
from pccodec.evaluation.curves import peak_of_cloud
from pccodec.evaluation.embedded import Pccodec
from pccodec.evaluation.metrics import Reference, psnr, table_psnr
from pccodec.evaluation.report import source_commit

LIMITS = (0.02, 0.05)
"""Falls in dB beyond which cuts are counted."""


@dataclass(frozen=True)
class Fall:
    """A cut whose D1 PSNR is below that of a shorter one.

    Attributes:
        size: its bytes.
        layer: the layer that is cut.
        decibel: by how much the best shorter cut is better.
    """

    size: int
    layer: str
    decibel: float


def draw_cuts(begin: int, end: int, count: int, seed: int) -> list[int]:
    """About ``count`` distinct sizes from ``begin`` to ``end``, both of them among the sizes."""
    source = np.random.default_rng(seed)
    uniform = source.uniform(begin, end, count // 2)
    logarithmic = np.exp(source.uniform(np.log(begin), np.log(end), count - count // 2))
    drawn = np.concatenate([[begin, end], uniform, logarithmic])
    return sorted({int(size) for size in drawn})


def find_falls(quality: list[tuple[int, float]], layer_of: Callable[[int], str]) -> list[Fall]:
    """Falls among (bytes, dB) by rising bytes."""
    best, falls = -np.inf, []
    for size, value in quality:
        if value < best:
            falls.append(Fall(size, layer_of(size), best - value))
        best = max(best, value)
    return falls


def measure(name: str, points: np.ndarray, count: int, seed: int) -> dict[str, Any]:
    """Row of one cloud, points (n, 3): its cuts as [bytes, dB], and its falls."""
    codec = Pccodec()
    data = codec.encode(points)
    layout, stream = codec.layout(data), container.parse(data)
    reference = Reference(points, peak=peak_of_cloud(points, layout))

    def layer_of(size: int) -> str:
        return layout.names[int(np.searchsorted(layout.ends, size))]

    quality, decoder, fed = [], Decoder(), 0
    for size in draw_cuts(stream.header_size, len(data), count, seed):
        decoder.feed(data[fed:size])
        fed = size
        quality.append((size, psnr(reference.d1_mse(decoder.points()), reference.peak)))
    falls = find_falls(quality, layer_of)
    return {
        "cloud": name,
        "cuts": [[size, round(table_psnr(value), 4)] for size, value in quality],
        "largest_fall": round(max((fall.decibel for fall in falls), default=0.0), 4),
        **{f"falls_over_{limit}": sum(fall.decibel > limit for fall in falls) for limit in LIMITS},
        "falls": [
            [fall.size, fall.layer, round(fall.decibel, 4)] for fall in falls if fall.decibel > LIMITS[0]
        ],
    }


@command
def main(arguments: list[str] | None = None) -> None:
    """Measure the clouds one after another; the file is written anew after each."""
    parser = argparse.ArgumentParser(description="Whether quality rises with the bytes.")
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--cuts", type=int, default=100, help="cuts a cloud")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for cloud in options.clouds:
        row = measure(cloud.stem, io.read(cloud).points, options.cuts, options.seed)
        rows.append(row)
        counted = ", ".join(f"{row[f'falls_over_{limit}']} over {limit} dB" for limit in LIMITS)
        print(f"{cloud.stem:20} {len(row['cuts'])} cuts, falls: {counted}, most {row['largest_fall']} dB")
        found = {"commit": source_commit(), "seed": options.seed, "clouds": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
