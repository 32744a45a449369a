"""Local contexts of a child bit, counted by the adaptive calibration.

Each context is a small integer made of bits that both sides know: octants coded
before, of the node and of its neighbours, and which neighbours exist. Face and
edge neighbours are those of the child's own cell, one level below the nodes.
"""

from __future__ import annotations

import numpy as np

from pccodec.sparse.neighbors import CENTER
from pccodec.voxels.octree import POPCOUNT

SIZES = (128, 256, 224, 512)
"""Values that each context can take: siblings; faces; edges; neighbour nodes."""

_AXIS_BIT = (4, 2, 1)
_AXIS_STEP = (9, 3, 1)
_FACES = (4, 10, 12, 14, 16, 22)
_PAIRS = ((0, 1), (0, 2), (1, 2))


class LocalContexts:
    """The contexts of one level.

    Args:
        neighbors: int32 (n, 27), the neighbour map of the nodes.
    """

    def __init__(self, neighbors: np.ndarray) -> None:
        self._neighbors = neighbors
        self._columns: dict[int, np.ndarray] = {}
        present = neighbors < len(neighbors)
        faces = present[:, _FACES]
        others = present.sum(axis=1) - faces.sum(axis=1) - 1
        self._nodes = (faces @ (1 << np.arange(len(_FACES)))) * 8 + np.minimum(others, 7)

    def _column(self, step: int) -> np.ndarray:
        """The neighbours at an offset ``step`` from the center column, int32 (n,)."""
        if step not in self._columns:
            self._columns[step] = np.ascontiguousarray(self._neighbors[:, CENTER + step])
        return self._columns[step]

    def keys(self, octant: int, occupancy: np.ndarray) -> np.ndarray:
        """Context values, int64 (len(SIZES), n), of the bits of an octant.

        Args:
            octant: the octant that is coded now.
            occupancy: uint8 (n,), its bits below ``octant`` known, the others ignored.
        """
        count = len(occupancy)
        prefix = occupancy & np.uint8((1 << octant) - 1)
        table = np.append(prefix, np.uint8(0))
        # The neighbour node beyond the face of each axis that the octant touches.
        outward = [step if octant & bit else -step for bit, step in zip(_AXIS_BIT, _AXIS_STEP, strict=True)]
        faces = np.zeros(count, dtype=np.int64)
        touching = np.zeros(count, dtype=np.int64)
        for bit, step in zip(_AXIS_BIT, outward, strict=True):
            index = self._column(step)
            other = octant ^ bit
            if other < octant:
                inner, outer = prefix >> other & 1, table[index] >> other & 1
                touching += inner
                faces = (faces << 2) | (inner << 1) | outer
            else:
                outer = index < count
                faces = (faces << 2) | outer
            touching += outer
        edges = np.zeros(count, dtype=np.int64)
        possible = np.zeros(count, dtype=np.int64)
        for first, second in _PAIRS:
            other = octant ^ _AXIS_BIT[first] ^ _AXIS_BIT[second]
            columns = [outward[first], outward[second], outward[first] + outward[second]]
            around = [self._column(step) for step in columns]
            if other < octant:
                edges += prefix >> other & 1
                for index in around:
                    edges += table[index] >> other & 1
            else:
                for index in around:
                    possible += index < count
        keys = np.empty((len(SIZES), count), dtype=np.int64)
        keys[0] = prefix
        keys[1] = faces * 4 + np.minimum(POPCOUNT[prefix], 3)
        keys[2] = (np.minimum(edges, 7) * 4 + np.minimum(possible, 3)) * 7 + touching
        keys[3] = self._nodes
        return keys
