"""Voxels that were predicted earlier, brought into line with what is known now, without any network."""

from __future__ import annotations

import numpy as np

from pccodec.codec.expected_points import node_centers
from pccodec.model.upsampling import Known
from pccodec.voxels import octree


def corrected(voxels: np.ndarray, known: Known) -> np.ndarray:
    """What is left of predicted voxels, and something for each known node.

    Voxels go whose node at the finest known level is not there, or whose child bit of it is known to
    be 0. A child whose bit is known to be 1, and a node without such children, get a voxel at their
    centre if they hold none.

    Args:
        voxels: sorted Morton codes, uint64.
        known: what is known of the same cloud.

    Returns:
        Sorted distinct voxel codes, uint64.
    """
    level = known.finest
    if level == 0:
        return known.codes[0]
    codes = known.codes[level]
    place, there = _find(codes, voxels >> np.uint64(3 * level))
    voxels, place = voxels[there], place[there]
    if known.partial is None:
        held = np.zeros(len(codes), dtype=bool)
        held[place] = True
        return np.sort(np.concatenate([voxels, node_centers(codes[~held], level)]))
    octant = (voxels >> np.uint64(3 * (level - 1)) & np.uint64(7)).astype(np.uint8)
    absent = known.partial.known & ~known.partial.occupancy
    kept = absent[place] >> octant & 1 == 0
    voxels, place, octant = voxels[kept], place[kept], octant[kept]
    held = np.zeros((len(codes), 8), dtype=bool)
    held[place, octant] = True
    children = octree.pack(held)
    missing = octree.expand(codes, known.partial.occupancy & ~children)
    empty = codes[(children | known.partial.occupancy) == 0]
    return np.sort(np.concatenate([voxels, node_centers(missing, level - 1), node_centers(empty, level)]))


def _find(codes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where sorted codes are among other sorted ones, int64 (n,), and whether they are, bool (n,)."""
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return place, codes[place] == wanted
