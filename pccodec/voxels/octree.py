"""The octree of a voxelized cloud, level by level, as sorted Morton codes.

Level ``l`` holds the occupied cells ``X_l`` at stride ``2**l``; level 0 is the
input. Nodes of a level are sorted by code, so the children of a node stand
together and in the order of their octants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POPCOUNT = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.int64)
"""Number of set bits of each byte: children of a node by its occupancy."""

_OCTANT_BITS = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1


def parents(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parent codes and occupancy bytes of sorted, distinct codes.

    Args:
        codes: uint64 (n,), strictly increasing.

    Returns:
        Parent codes uint64 (m,), strictly increasing, and occupancy uint8 (m,):
        bit ``o`` is set when octant ``o`` of the parent is occupied.
    """
    above = codes >> np.uint64(3)
    first = np.flatnonzero(np.concatenate([[True], above[1:] != above[:-1]]))
    bit = np.uint8(1) << (codes & np.uint64(7)).astype(np.uint8)
    return above[first], np.bitwise_or.reduceat(bit, first)


def ancestors(codes: np.ndarray, levels: int) -> np.ndarray:
    """The nodes so many levels above sorted nodes, uint64, strictly increasing."""
    above = codes >> np.uint64(3 * levels)
    first: np.ndarray = above[np.concatenate([[True], above[1:] != above[:-1]])]
    return first


def expand(codes: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Child codes, uint64 sorted, of nodes (m,) with occupancy bytes uint8 (m,)."""
    node, octant = children(occupancy)
    return (codes[node] << np.uint64(3)) | octant.astype(np.uint64)


def children(occupancy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parent index and octant, both int64 (n,), of every child of nodes (m,), in Morton order."""
    # Far faster than the indices of a matrix.
    place = np.flatnonzero(_OCTANT_BITS[occupancy])
    return place >> 3, place & 7


def unpack(occupancy: np.ndarray) -> np.ndarray:
    """Child bits, bool (m, 8), of occupancy bytes (m,); column ``o`` is octant ``o``."""
    return _OCTANT_BITS[occupancy]


def pack(bits: np.ndarray) -> np.ndarray:
    """Occupancy bytes, uint8 (m,), of child bits, bool (m, 8)."""
    packed: np.ndarray = np.packbits(bits, axis=1, bitorder="little")[:, 0]
    return packed


def unpack_rows(occupancy: np.ndarray) -> np.ndarray:
    """Child bits, bool (8, m), of occupancy bytes (m,); row ``o`` is octant ``o``."""
    return (occupancy & (np.uint8(1) << np.arange(8, dtype=np.uint8))[:, None]) != 0


def pack_rows(bits: np.ndarray) -> np.ndarray:
    """Occupancy bytes, uint8 (m,), of child bits, bool (8, m)."""
    packed = bits[0].astype(np.uint8)
    for octant in range(1, 8):
        packed |= bits[octant].view(np.uint8) << np.uint8(octant)
    return packed


@dataclass(frozen=True)
class Octree:
    """All levels of a voxelized cloud.

    Attributes:
        codes: ``codes[l]`` are the sorted Morton codes, uint64, of ``X_l`` for
            ``l`` in 0…depth; ``codes[depth]`` is the single root, code 0.
        occupancy: ``occupancy[l]``, uint8, are the child bits that lead from
            ``X_{l+1}`` to ``X_l``: one byte a node of ``X_{l+1}``.
    """

    codes: list[np.ndarray]
    occupancy: list[np.ndarray]

    @property
    def depth(self) -> int:
        """Levels below the root, which is the bit depth of the grid."""
        return len(self.occupancy)

    @classmethod
    def build(cls, codes: np.ndarray, depth: int) -> Octree:
        """Octree of sorted distinct voxel codes uint64 (n,), n ≥ 1, below ``8**depth``."""
        levels, occupancy = [codes], []
        for _ in range(depth):
            above, bits = parents(levels[-1])
            levels.append(above)
            occupancy.append(bits)
        return cls(levels, occupancy)
