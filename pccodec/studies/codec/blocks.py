"""Data of the reduced codec: the nodes of stride 8 of training and held-out blocks.

Of each block one level is kept: the nodes of ``X_3``, what a level network is told of them, the
descriptors that the analysis transform reads, and the children that are to be predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pccodec.entropy.geometry import LevelContext, encode_level
from pccodec.io.atomic import atomic_write
from pccodec.model.analysis import descriptor
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.training.batches import Batch, make_batch, mirrored
from pccodec.training.shapes import BlockCache
from pccodec.training.stream_twin import LevelInput
from pccodec.voxels.octree import unpack

LEVEL = 3
"""The level of the task: nodes of stride 8."""
_FULL = 8.0
"""Voxels of a cell of stride 2: descriptors are stored as numbers of voxels."""


@dataclass(frozen=True)
class Nodes:
    """The stride-8 nodes of some blocks; n nodes.

    Attributes:
        codes: uint64 (n,), Morton codes within their blocks.
        bounds: int64 (B+1,), where each block begins and the last one ends.
        neighbors: int32 (n, 27), the neighbour map; blocks do not touch.
        conditions: float32 (n, CONDITIONS), integers in CONDITION_UNIT.
        shape: float32 (n, 64), descriptors.
        occupancy: uint8 (n,), child bits.
    """

    codes: np.ndarray
    bounds: np.ndarray
    neighbors: np.ndarray
    conditions: np.ndarray
    shape: np.ndarray
    occupancy: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def level_input(self) -> LevelInput:
        """What the synthesis transform is given."""
        return LevelInput(torch.from_numpy(self.neighbors), torch.from_numpy(self.conditions), None)

    @property
    def children(self) -> Tensor:
        """Child bits, float32 (n, 8)."""
        return torch.from_numpy(unpack(self.occupancy).astype(np.float32))


class NodeCache:
    """The stride-8 nodes of many blocks, in one ``.npz`` file.

    ``base_bits`` is what the base layer, down to and with ``G_3``, takes of all blocks, in bits;
    0 if it was not measured.
    """

    def __init__(self, file: Path) -> None:
        with np.load(file) as stored:
            self._parts = {name: stored[name] for name in _PARTS}
            self._bounds = stored["bounds"]
            self.base_bits = int(stored["base_bits"])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def take(self, blocks: Sequence[int]) -> Nodes:
        """The nodes of the given blocks side by side."""
        spans = [slice(self._bounds[block], self._bounds[block + 1]) for block in blocks]
        counts = [span.stop - span.start for span in spans]
        bounds = np.cumsum([0, *counts])
        parts = {name: np.concatenate([part[span] for span in spans]) for name, part in self._parts.items()}
        own = np.repeat(counts, counts)[:, None]
        shifted = parts["neighbors"] + np.repeat(bounds[:-1], counts)[:, None]
        return Nodes(
            parts["codes"],
            bounds,
            np.where(parts["neighbors"] == own, bounds[-1], shifted).astype(np.int32),
            parts["conditions"].astype(np.float32),
            parts["shape"] / np.float32(_FULL),
            parts["occupancy"],
        )

    def draw(self, nodes: int, rng: np.random.Generator) -> Nodes:
        """Random blocks of together about ``nodes`` nodes, at least one block."""
        chosen: list[int] = []
        found = 0
        while not chosen or found < nodes:
            block = int(rng.integers(len(self)))
            size = int(self._bounds[block + 1] - self._bounds[block])
            if not chosen or found + size <= nodes:
                chosen.append(block)
            found += size
        return self.take(chosen)

    @classmethod
    def build(
        cls, blocks: BlockCache, indices: Sequence[int], file: Path, geometry: OccupancyNetwork | None
    ) -> NodeCache:
        """Take the nodes of the given blocks, each under a random symmetry of the cube, and store them.

        Args:
            blocks: the blocks.
            indices: which of them.
            file: ``.npz`` to write.
            geometry: with it the blocks stay as they are and their base layers are coded, for
                :attr:`base_bits`.
        """
        rng = np.random.default_rng(0)
        found: dict[str, list[np.ndarray]] = {name: [] for name in _PARTS}
        base_bits = 0
        for index in indices:
            batch = make_batch([blocks[index] if geometry else mirrored(blocks[index], rng)])
            for name, part in _parts(batch).items():
                found[name].append(part)
            if geometry is not None:
                base_bits += _base_bits(batch, geometry)
        parts: dict[str, Any] = {name: np.concatenate(arrays) for name, arrays in found.items()}
        parts["bounds"] = np.cumsum([0, *map(len, found["codes"])])
        with atomic_write(file) as stream:
            np.savez(stream, base_bits=base_bits, **parts)
        return cls(file)


_PARTS = ("codes", "neighbors", "conditions", "shape", "occupancy")


def _parts(batch: Batch) -> dict[str, np.ndarray]:
    """Arrays of a batch of one block, each (n, …), in small types."""
    count = len(batch.tree.codes[LEVEL])
    told = np.repeat(batch.conditions(LEVEL, exact=True), count, axis=0)
    voxels = descriptor(batch.tree, LEVEL) * _FULL
    return {
        "codes": batch.tree.codes[LEVEL],
        "neighbors": batch.maps[LEVEL],
        "conditions": told.astype(np.int16),
        "shape": np.rint(voxels).astype(np.uint8),
        "occupancy": batch.tree.occupancy[LEVEL - 1],
    }


def _base_bits(batch: Batch, geometry: OccupancyNetwork) -> int:
    """Size of the layers down to ``G_3`` of a batch of one block."""
    tree = batch.tree
    counts = {level: len(codes) for level, codes in enumerate(tree.codes)}
    bits = 0
    for level in range(tree.depth - 1, LEVEL - 1, -1):
        context = LevelContext(batch.maps[level + 1], level, counts, tree.codes[level + 1])
        bits += 8 * len(encode_level(geometry, context, tree.occupancy[level]))
    return bits
