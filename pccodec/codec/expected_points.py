"""Reconstruction of sparse clouds from a cut stream: the points that are expected in each node.

Where a node of stride 2 holds hardly more than one point there is no surface to upsample. What the
geometry network expects of a node's children then tells most of where its points lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pccodec.model.probability import PRECISION, probability
from pccodec.model.upsampling import Partial, highest
from pccodec.voxels import morton, octree

SPARSE_GROWTH = 2.0
"""Voxels a node of stride 2 below which a cloud counts as sparse; a surface has about 4."""

_HALF = 1 << PRECISION - 1
_OCTANTS = np.arange(8)


def is_sparse(counts: Sequence[int]) -> bool:
    """Whether a cloud with N_0, N_1, … nodes is sparse."""
    return len(counts) > 1 and counts[0] < SPARSE_GROWTH * counts[1]


def node_centers(codes: np.ndarray, level: int) -> np.ndarray:
    """Voxels, uint64 (n,), at the centres of nodes of ``X_level``, uint64 (n,)."""
    if level == 0:
        return codes
    # The lowest voxel of octant 7 is the upper one of the two next to the centre on each axis.
    return (codes << np.uint64(3) | np.uint64(7)) << np.uint64(3 * (level - 1))


def expected_points(codes: np.ndarray, level: int, partial: Partial, count: int) -> np.ndarray:
    """Voxels that stand for what the finest known nodes hold.

    A child that is there, or more likely than not, is one point at its centre. The others of its
    node are one point together where half a child is to be expected of them, or none stands for the
    node yet: at the mean of their centres, weighted by their probabilities. That place has the least
    expected squared distance.

    Args:
        codes: uint64 (n,), the nodes of ``X_level``, level ≥ 1.
        level: the finest exactly known level.
        partial: what is known of the next layer, with what is expected beside it.
        count: most points of children, if fewer are known to be there: the most likely ones.

    Returns:
        Sorted distinct voxel codes, uint64.
    """
    assert partial.expected is not None
    chance = np.where(octree.unpack(partial.known), 0, probability(partial.expected))
    likely = chance > _HALF
    room = max(0, count - int(octree.POPCOUNT[partial.occupancy].sum(dtype=np.int64)))
    if np.count_nonzero(likely) > room:
        likely = highest(np.where(likely, chance, 0).ravel(), room).reshape(likely.shape)
    occupancy = partial.occupancy | octree.pack(likely)
    chance[likely] = 0
    open_ = (occupancy == 0) | (chance.sum(axis=1) >= _HALF)
    children = node_centers(octree.expand(codes, occupancy), level - 1)
    return np.unique(np.concatenate([children, _means(codes[open_], level, chance[open_])]))


def _means(codes: np.ndarray, level: int, weights: np.ndarray) -> np.ndarray:
    """Voxels, uint64 (n,), at the means of the centres of nodes' children with weights int64 (n, 8)."""
    total = np.maximum(weights.sum(axis=1), 1)
    coords = morton.decode(codes).astype(np.int64) << level
    for axis, bit in enumerate((4, 2, 1)):
        upper = weights[:, _OCTANTS & bit != 0].sum(axis=1)
        # Centres lie at (h - 1)/2 and h + (h - 1)/2 voxels, h a child's edge; halves are rounded up.
        coords[:, axis] += (1 << level - 1) * (2 * upper + total) // (2 * total)
    return morton.encode(coords)
