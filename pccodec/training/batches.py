"""Several blocks as one octree whose roots are the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec.model.synthesis import conditions
from pccodec.sparse.neighbors import level_maps
from pccodec.training.shapes import BLOCK_BITS, under_symmetry
from pccodec.voxels import octree


@dataclass(frozen=True)
class Batch:
    """B blocks of 2**7 voxels a side.

    Attributes:
        tree: their octree; level 7 are the B block roots, codes 0…B-1.
        maps: neighbour maps int32 (n, 27) of levels 7…1; blocks do not touch.
        counts: int64 (B, 8), nodes of each block at levels 0…7.
    """

    tree: octree.Octree
    maps: list[np.ndarray]
    counts: np.ndarray

    @property
    def points(self) -> int:
        """Voxels of all blocks."""
        return len(self.tree.codes[0])

    def block_of(self, codes: np.ndarray, level: int) -> np.ndarray:
        """Block index, int64 (n,), of nodes of a level."""
        return (codes >> np.uint64(3 * (BLOCK_BITS - level))).astype(np.int64)

    def conditions(self, level: int, exact: bool) -> np.ndarray:
        """Conditions float32 (B, CONDITIONS) of each block at a level of true or predicted nodes."""
        return block_conditions(self.counts, level, exact)


def block_conditions(counts: np.ndarray, level: int, exact: bool) -> np.ndarray:
    """Conditions float32 (B, CONDITIONS) at a level of blocks with counts (B, 8) of nodes by level."""
    rows = [conditions(dict(enumerate(block.tolist())), level, exact) for block in counts]
    return np.array(rows, dtype=np.float32)


def mirrored(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The block under one of the 48 symmetries of the cube, drawn at random; sorted codes."""
    return under_symmetry(codes, rng.permutation(3), rng.random(3) < 0.5, (1 << BLOCK_BITS) - 1)


def make_batch(blocks: list[np.ndarray]) -> Batch:
    """Batch of blocks given as sorted Morton codes, uint64."""
    joined = np.concatenate([codes | np.uint64(i << (3 * BLOCK_BITS)) for i, codes in enumerate(blocks)])
    tree = octree.Octree.build(joined, BLOCK_BITS)
    maps = level_maps(tree, roots=len(blocks))
    counts = np.stack(
        [
            np.bincount(
                (codes >> np.uint64(3 * (BLOCK_BITS - level))).astype(np.int64), minlength=len(blocks)
            )
            for level, codes in enumerate(tree.codes)
        ],
        axis=1,
    )
    return Batch(tree, maps, counts)
