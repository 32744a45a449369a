"""What the learned coder saves in the base layer: ``python -m pccodec.training.table_baseline CLOUD…``.

The baseline codes the same child bits with static tables counted on simulated clouds, as a coder
without a network would: octant after octant, the context of a bit being the octants before it in
its node and what stands beyond and beside its cell's faces. A context that was seen too rarely
falls back on the faces alone. Only the ideal code length of the baseline is counted; the learned
coder's layers are real bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pccodec import codec, container, io
from pccodec.entropy.contexts import SIZES, LocalContexts
from pccodec.evaluation.command import command
from pccodec.evaluation.summary import clouds_parser, summarize
from pccodec.model.occupancy import PASSES
from pccodec.training.levels import CloudCache, Level, levels_of, octree_of
from pccodec.voxels.grid import voxelize

BASE = 3
"""The base layer ends with ``G_3``."""
_RARE = 24
_SIBLINGS, _FACES = SIZES[0], SIZES[1]


def contexts(level: Level) -> Iterable[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Octant, full context, fallback context and bit of all nodes, octant by octant; int64 (n,) each."""
    local = LocalContexts(level.neighbors)
    for octant in range(PASSES):
        siblings, faces = local.keys(octant, level.occupancy)[:2]
        bits = (level.occupancy >> octant & 1).astype(np.int64)
        yield octant, siblings * _FACES + faces, faces, bits


class Tables:
    """Counts of zeros and ones by octant and context."""

    def __init__(self) -> None:
        self._full = np.zeros((PASSES, _SIBLINGS * _FACES, 2))
        self._faces = np.zeros((PASSES, _FACES, 2))

    def count(self, level: Level) -> None:
        """Add the bits of a level."""
        for octant, full, faces, bits in contexts(level):
            np.add.at(self._full[octant], (full, bits), 1)
            np.add.at(self._faces[octant], (faces, bits), 1)

    def bits(self, level: Level) -> float:
        """Ideal code length of a level; the last bit of an otherwise empty node is free."""
        total = 0.0
        for octant, full, faces, bits in contexts(level):
            seen = self._full[octant][full]
            rare = seen.sum(axis=1) < _RARE
            seen[rare] = self._faces[octant][faces[rare]]
            share = (seen[np.arange(len(bits)), bits] + 0.4) / (seen.sum(axis=1) + 0.8)
            if octant == PASSES - 1:
                share[(level.occupancy & 127) == 0] = 1.0
            total -= float(np.log2(share).sum())
        return total


@command
def main(arguments: list[str] | None = None) -> None:
    """Print and write the bytes of both base layers on each cloud."""
    parser = clouds_parser("Base layers of the learned coder and of static tables.")
    parser.add_argument("--cache", type=Path, nargs="+", required=True, help="simulated clouds to count on")
    options = parser.parse_args(arguments)
    tables = Tables()
    for cache in map(CloudCache, options.cache):
        for index in range(len(cache)):
            if cache.kinds[index] == "dense":
                for level in levels_of(cache.octree(index))[BASE:]:
                    tables.count(level)
    rows = []
    for file in options.clouds:
        points = io.read(file).points
        _, codes, _ = voxelize(points)
        static = sum(tables.bits(level) for level in levels_of(octree_of(codes))[BASE:]) / 8
        layers = container.parse(codec.encode(points)).layers
        learned = sum(layer.length for layer in layers if layer.spec.level >= BASE and layer.spec.kind == "G")
        saved = 100 * (learned / static - 1)
        rows.append(
            {"cloud": file.stem, "tables": round(static), "learned": learned, "percent": round(saved, 1)}
        )
        print(f"{file.stem:20} {static:8.0f} {learned:8} {saved:6.1f} %", flush=True)
    summarize(rows, "percent", options.json)


if __name__ == "__main__":
    sys.exit(main())
