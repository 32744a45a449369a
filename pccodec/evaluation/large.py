"""A cloud larger than memory should hold: ``python -m pccodec.evaluation.large --points N --json FILE``.

An aerial scan of N points and one of a million are made, encoded and decoded by the commands, each in
a process of its own with one BLAS thread, and the large one once more by two processes. Then the
first hundredth of the large stream is decoded, and a box of a twentieth of its area; what such boxes
take elsewhere is told by the stream's directories. Takes
minutes, and some 40 bytes of disk a point. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pccodec import container, io
from pccodec.codec import Box, decode_parts
from pccodec.codec.tile_stream import TileStream
from pccodec.evaluation.aerial import AerialConfig, scan
from pccodec.evaluation.command import command
from pccodec.evaluation.report import source_commit
from pccodec.evaluation.resources import measure_command
from pccodec.source import FileSource, PrefixSource, Source

SMALL = 1_000_000
"""Points of the cloud whose time a point is compared with."""

_CELLS = 64
"""Cells an axis of the map on which the first hundredth of a stream is compared with the cloud."""

_AREA = 0.05
_PLACES = 1000
_PREFIX = 0.01


class CountingSource(FileSource):
    """A file of which the bytes are counted that are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path, self.read_bytes = path, 0

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, fewer where the file ends before."""
        data = super().read(start, stop)
        self.read_bytes += len(data)
        return data


def run(*arguments: str) -> dict[str, float]:
    """A command's CPU seconds, wall seconds and peak of resident memory in MB of its largest process."""
    start = time.perf_counter()
    return measure_command(*arguments) | {"seconds": round(time.perf_counter() - start, 2)}


def round_trip(cloud: Path, folder: Path, jobs: int) -> dict[str, Any]:
    """Encode and decode a cloud by the commands; the stream is ``folder/cloud.pcc``."""
    stream, decoded = folder / f"{cloud.stem}.pcc", folder / "decoded.ply"
    encode = run("encode", str(cloud), "-o", str(stream), "--jobs", str(jobs))
    return {
        "jobs": jobs,
        "bytes": stream.stat().st_size,
        "encode": encode,
        "decode": run("decode", str(stream), "-o", str(decoded), "--jobs", str(jobs)),
    }


def coverage(
    cloud: Iterable[np.ndarray], decoded: Iterable[np.ndarray], low: np.ndarray, high: np.ndarray
) -> float:
    """Share of the cloud's cells, seen from above, that hold decoded points too."""

    def cells(parts: Iterable[np.ndarray]) -> np.ndarray:
        grid = np.zeros((_CELLS, _CELLS), dtype=bool)
        for points in parts:
            place = (points[:, :2] - low[:2]) / np.maximum(high[:2] - low[:2], 1e-9) * _CELLS
            grid[tuple(place.astype(np.int64).clip(0, _CELLS - 1).T)] = True
        return grid

    held = cells(cloud)
    return float((held & cells(decoded)).sum() / held.sum())


def write_scan(target: Path, points: int, seed: int) -> None:
    """Write the aerial scan of ``evaluation.aerial``, chunk by chunk."""
    config = AerialConfig(points, seed)
    with io.open_writer(target, config.spec()) as writer:
        for chunk in scan(config):
            writer.write(chunk)


def read_region(
    source: CountingSource, corner: np.ndarray, other: np.ndarray, low: np.ndarray, high: np.ndarray
) -> dict[str, float]:
    """What one takes, in parts of the whole, of a box from ``corner`` to ``other`` seen from above."""
    box = Box((corner[0], corner[1], low[2]), (other[0], other[1], high[2]))
    source.read_bytes = 0
    inside = sum(map(len, decode_parts(source, box=box)))
    return {
        "area": round(float(np.prod((other - corner)[:2] / (high - low)[:2])), 4),
        "points": round(inside / container.parse_source(FileSource(source.path)).header.counts[0], 4),
        "bytes": round(source.read_bytes / source.size, 4),
    }


def shares_of_boxes(source: Source, low: np.ndarray, high: np.ndarray, seed: int) -> np.ndarray:
    """Shares float64 (_PLACES,) of a stream of tiles that boxes of a twentieth of the area take.

    One box tells more of where the tiles happen to lie than of their size, so they lie at random.

    Args:
        source: the stream.
        low, high: corners of the cloud, (3,).
        seed: of the places.
    """
    stream, rng = TileStream(source), np.random.default_rng(seed)
    edge = (high - low) * [math.sqrt(_AREA), math.sqrt(_AREA), 1]
    corners = low + rng.uniform(size=(_PLACES, 3)) * (high - low - edge)
    boxes = (Box(tuple(corner), tuple(corner + edge)) for corner in corners)
    taken = [stream.bytes_for(stream.select(*box.voxels(stream.grid)).tolist()) for box in boxes]
    return np.array(taken) / source.size


def measure(points: int, seed: int, folder: Path) -> dict[str, Any]:
    """All figures of an aerial scan of so many points."""
    small, large = folder / "small.laz", folder / "large.laz"
    write_scan(small, SMALL, seed)
    write_scan(large, points, seed)
    rows = {"small": round_trip(small, folder, 1)}
    for jobs in (2, 1):
        rows[f"jobs_{jobs}"] = round_trip(large, folder, jobs)
    source = CountingSource(folder / "large.pcc")
    survey = io.open_chunks(large).survey
    low, high = survey.low, survey.high
    prefix = PrefixSource(source, int(_PREFIX * source.size))
    covered = coverage(io.open_chunks(large), decode_parts(prefix), low, high)
    header = container.parse_source(source).header
    assert header.tiles is not None
    edge = (high - low) * np.sqrt(_AREA) / 2
    centre = (low + high) / 2
    regions = {"centre": (centre - edge, centre + edge)}
    # The same about a corner that tiles share, in whole tiles.
    tile = header.scale * (1 << header.tiles.tile)
    origin = np.array(header.origin)
    count = np.maximum(1, np.rint(2 * edge / tile))
    first = origin + np.floor((centre - origin) / tile) * tile
    # Readers take one voxel more on each side, for rounding.
    regions["whole_tiles"] = first + 2 * header.scale, first + count * tile - 3 * header.scale
    found = {name: read_region(source, one, other, low, high) for name, (one, other) in regions.items()}
    shares = shares_of_boxes(source, low, high, seed)
    boxes = {"mean": round(float(shares.mean()), 4), "most": round(float(shares.max()), 4)}
    a_point = {
        what: (rows["jobs_1"][what]["cpu_seconds"] / points) / (rows["small"][what]["cpu_seconds"] / SMALL)
        for what in ("encode", "decode")
    }
    # Alone on a core, a process of one thread takes its CPU time; unlike wall time, that does not
    # grow with what else the machine does.
    speedup = {
        what: rows["jobs_1"][what]["cpu_seconds"] / rows["jobs_2"][what]["seconds"]
        for what in ("encode", "decode")
    }
    return {
        "points": points,
        "seed": seed,
        "voxels": header.counts[0],
        "voxel_size": header.scale,
        "runs": rows,
        "cpu_a_point_of_small": {what: round(value, 3) for what, value in a_point.items()},
        "speedup_of_two": {what: round(value, 3) for what, value in speedup.items()},
        "prefix": {"share": _PREFIX, "cells_covered": round(covered, 4)},
        "regions": found,
        "boxes_at_random": boxes,
    }


@command
def main(arguments: list[str] | None = None) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description="Time, memory and byte ranges of a large cloud.")
    parser.add_argument("--points", type=int, default=20_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.points, options.seed, Path(folder))
    options.json.write_text(json.dumps({"commit": source_commit(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
