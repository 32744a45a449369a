"""Reconstruction of sparse clouds from a cut stream: one point for each node, at its centre.

Where a node holds hardly more than one point there is no surface to upsample. The
centre has the least expected squared distance to a point of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pccodec.model.probability import PRECISION, probability
from pccodec.model.upsampling import Partial
from pccodec.voxels import octree

SPARSE_GROWTH = 2.0
"""Voxels a node of stride 2 below which a cloud counts as sparse; a surface has about 4."""


def is_sparse(counts: Sequence[int]) -> bool:
    """Whether a cloud with N_0, N_1, … nodes is sparse."""
    return len(counts) > 1 and counts[0] < SPARSE_GROWTH * counts[1]


def node_centers(codes: np.ndarray, level: int, partial: Partial | None) -> np.ndarray:
    """Voxels at the centres of the finest nodes that are known.

    Args:
        codes: uint64 (n,), the nodes of ``X_level``, level ≥ 1.
        level: the finest exactly known level.
        partial: what is known of a cut layer, with what is expected beside it.

    Returns:
        Sorted distinct voxel codes, uint64: known children stand for themselves, and a node for
        the children that are still to be expected of it.
    """
    if partial is None:
        return _centers(codes, level)
    assert partial.expected is not None
    to_come = np.where(octree.unpack(partial.known), 0, probability(partial.expected)).sum(axis=1)
    # At half a child quality would peak before the layer's end and fall towards it.
    open_ = (partial.occupancy == 0) | (4 * to_come >= 3 << PRECISION)
    children = octree.expand(codes, partial.occupancy)
    return np.unique(np.concatenate([_centers(children, level - 1), _centers(codes[open_], level)]))


def _centers(codes: np.ndarray, level: int) -> np.ndarray:
    if level == 0:
        return codes
    # The lowest voxel of octant 7 is the upper one of the two next to the centre on each axis.
    return (codes << np.uint64(3) | np.uint64(7)) << np.uint64(3 * (level - 1))
