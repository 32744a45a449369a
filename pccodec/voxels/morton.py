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


_DIGIT = 15
"""Bits of a code that are looked up at a time: 5 an axis."""
_DIGIT_MASK = np.uint64((1 << _DIGIT) - 1)
_AXIS_MASK = np.uint64((1 << MAX_BITS) - 1)


def _coordinates_of_digits() -> np.ndarray:
    """The coordinates of each digit in one word, uint64 (2**_DIGIT,): x above y above z."""
    axis = _spread(np.arange(1 << _DIGIT // 3))
    x, y, z = (axis << np.uint64(2)), (axis << np.uint64(1)), axis
    codes = (x[:, None, None] | y[:, None] | z).ravel()
    out = np.empty(len(codes), dtype=np.uint64)
    grid = np.arange(len(axis), dtype=np.uint64)
    words = grid[:, None, None] << np.uint64(2 * MAX_BITS) | grid[:, None] << np.uint64(MAX_BITS) | grid
    out[codes] = words.ravel()
    return out


def encode(coords: np.ndarray) -> np.ndarray:
    """Morton codes, uint64 (n,), of non-negative integer coordinates (n, 3) below 2**21."""
    return (
        (_spread(coords[:, 0]) << np.uint64(2))
        | (_spread(coords[:, 1]) << np.uint64(1))
        | _spread(coords[:, 2])
    )


_COORDINATES = _coordinates_of_digits()


def decode(codes: np.ndarray) -> np.ndarray:
    """Coordinates, int32 (n, 3), of Morton codes (n,)."""
    codes = codes.astype(np.uint64, copy=False)
    words = _COORDINATES[codes & _DIGIT_MASK]
    for digit in range(1, -(-int(codes.max(initial=0)).bit_length() // _DIGIT)):
        found = _COORDINATES[codes >> np.uint64(_DIGIT * digit) & _DIGIT_MASK]
        words |= found << np.uint64(_DIGIT // 3 * digit)
    out = np.empty((len(codes), 3), dtype=np.int32)
    out[:, 0] = words >> np.uint64(2 * MAX_BITS)
    out[:, 1] = words >> np.uint64(MAX_BITS) & _AXIS_MASK
    out[:, 2] = words & _AXIS_MASK
    return out
