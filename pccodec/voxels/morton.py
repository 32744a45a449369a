"""Morton (Z-order) codes of voxel coordinates.

A code interleaves the bits of x, y and z with x the most significant of each
triple, so ``code >> 3`` is the code of the parent octree node and ``code & 7``
is the octant ``4*x + 2*y + z`` of a node within its parent.
"""

from __future__ import annotations

import numpy as np

MAX_BITS = 21
"""Bits per axis that fit a 63-bit code."""

# Magic-number bit spreading: each step doubles the gap between groups of bits.
_SPREAD = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def _spread(axis: np.ndarray) -> np.ndarray:
    bits = axis.astype(np.uint64) & np.uint64(0x1FFFFF)
    for shift, mask in _SPREAD:
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits


def _compact(bits: np.ndarray) -> np.ndarray:
    bits = bits & np.uint64(0x1249249249249249)
    masks = [mask for _, mask in _SPREAD[-2::-1]] + [0x1FFFFF]
    for shift, mask in zip((2, 4, 8, 16, 32), masks, strict=True):
        bits = (bits | (bits >> np.uint64(shift))) & np.uint64(mask)
    return bits


def encode(coords: np.ndarray) -> np.ndarray:
    """Morton codes, uint64 (n,), of non-negative integer coordinates (n, 3) below 2**21."""
    return (
        (_spread(coords[:, 0]) << np.uint64(2))
        | (_spread(coords[:, 1]) << np.uint64(1))
        | _spread(coords[:, 2])
    )


def decode(codes: np.ndarray) -> np.ndarray:
    """Coordinates, int32 (n, 3), of Morton codes (n,)."""
    codes = codes.astype(np.uint64, copy=False)
    return np.stack([_compact(codes >> np.uint64(shift)).astype(np.int32) for shift in (2, 1, 0)], axis=1)
