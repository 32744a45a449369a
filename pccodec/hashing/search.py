"""The nearest codes in Hamming distance, by going through all of them.

A code is a uint64 whose most significant bit is the first, so that its first hexadecimal
digits are the short code. Cheap steps over blocks that stay in cache make a library
superfluous: 10^6 codes take about 2 ms, whatever the number of bits.

A query knows more than its bits: how far each of its values is from the zero at which the bit would turn.
That decides between codes at the same distance, and costs the index nothing.
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


def penalties(codes: np.ndarray, query: int, certainty: np.ndarray, bits: int = BITS) -> np.ndarray:
    """Sums float32 (n,) of the certainty of those bits in which codes differ from a query.

    Args:
        codes: uint64 (n,).
        query: a code.
        certainty: float32 (64,), not negative, of the query's bits.
        bits: how many of the first bits count, 1…64.
    """
    different = (
        ((codes ^ np.uint64(query)) & prefix(bits)).astype(">u8").view(np.uint8).reshape(-1, BITS // 8)
    )
    # A table for each byte: a few lookups a code instead of 64 products.
    patterns = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
    tables = certainty.reshape(-1, 8).astype(np.float32) @ patterns.T
    out = np.zeros(len(codes), dtype=np.float32)
    for byte, table in enumerate(tables):
        out += table[different[:, byte]]
    return out


def nearest(
    codes: np.ndarray, query: int, top: int, bits: int = BITS, certainty: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``top`` nearest codes, or all if there are fewer.

    Args:
        codes: uint64 (n,).
        query: a code.
        top: how many, at least 1.
        bits: how many of the first bits count, 1…64.
        certainty: float32 (64,), not negative, of the query's bits; None if nothing is known of it.

    Returns:
        Positions int64 (k,) and distances uint8 (k,), nearest first. At the same distance those come
        first that differ in less certain bits; what is left of ties is in the order of ``codes``.
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
    if certainty is None:
        order = np.argsort(found[near], kind="stable")
    else:
        order = np.lexsort((penalties(codes[near], query, certainty, bits), found[near]))
    near = near[order[:top]]
    return near, found[near]
