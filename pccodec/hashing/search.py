"""The nearest codes in Hamming distance, by going through all of them.

A code is a uint64 whose most significant bit is the first, so that its first hexadecimal
digits are the short code. Cheap steps over blocks that stay in cache make a library
superfluous: 10^6 codes take about 2 ms, whatever the number of bits.
"""

from __future__ import annotations

import numpy as np

BITS = 64
_BLOCK = 1 << 14


def prefix(bits: int) -> np.uint64:
    """The mask of the first ``bits`` bits, 1…64."""
    return np.uint64(((1 << bits) - 1) << (BITS - bits))


def distances(codes: np.ndarray, query: int, bits: int = BITS) -> np.ndarray:
    """Distances uint8 (n,) of codes uint64 (n,) from a query in their first ``bits`` bits."""
    mask = prefix(bits)
    wanted = np.uint64(query) & mask
    found = np.empty(len(codes), dtype=np.uint8)
    scratch = np.empty(min(_BLOCK, len(codes)), dtype=np.uint64)
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK]
        different = scratch[: len(block)]
        np.bitwise_and(block, mask, out=different)
        np.bitwise_xor(different, wanted, out=different)
        np.bitwise_count(different, out=found[start : start + _BLOCK])
    return found


def nearest(codes: np.ndarray, query: int, top: int, bits: int = BITS) -> tuple[np.ndarray, np.ndarray]:
    """The ``top`` nearest codes, or all if there are fewer.

    Args:
        codes: uint64 (n,).
        query: a code.
        top: how many, at least 1.
        bits: how many of the first bits count, 1…64.

    Returns:
        Positions int64 (k,) and distances uint8 (k,), nearest first; ties in the order of ``codes``.
    """
    found = distances(codes, query, bits)
    # The largest distance among the results, by bisection: counting is far cheaper than sorting.
    low, high = 0, bits
    while low < high:
        middle = (low + high) // 2
        if np.count_nonzero(found <= middle) >= top:
            high = middle
        else:
            low = middle + 1
    near = np.flatnonzero(found <= low)
    near = near[np.argsort(found[near], kind="stable")[:top]]
    return near, found[near]
