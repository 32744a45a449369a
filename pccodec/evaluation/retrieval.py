"""Retrieval by Hamming distance: mean average precision and precision at k, exact under ties.

Short codes tie often. All figures are expectations over the order of tied entries, so that they
depend neither on the order of the database nor on chance (McSherry and Najork, ECIR 2008).
"""

from __future__ import annotations

import numpy as np


def hamming(queries: np.ndarray, database: np.ndarray, bits: int) -> np.ndarray:
    """Distances int64 (q, n) between the first ``bits`` bits of codes bool (q, K) and (n, K)."""
    left = np.where(queries[:, :bits], 1.0, -1.0).astype(np.float32)
    right = np.where(database[:, :bits], 1.0, -1.0).astype(np.float32)
    return np.rint((bits - left @ right.T) / 2).astype(np.int64)


def search_ranks(values: np.ndarray, database: np.ndarray, bits: int) -> np.ndarray:
    """Places int64 (q, n) at which ``pccodec search`` shows codes; equal where it cannot tell them apart.

    Ranked by Hamming distance, and at the same distance by the sum of ``|value|`` over the bits that
    differ (:func:`pccodec.hashing.search.penalties`).

    Args:
        values: float32 (q, K) of the queries, of which the signs are the bits.
        database: codes bool (n, K).
        bits: how many of the first bits count.
    """
    far = hamming(values > 0, database, bits)
    signs = np.where(database[:, :bits], 1, -1).astype(np.float64)
    kept = values[:, :bits].astype(np.float64)
    total = np.abs(kept).sum(axis=1, keepdims=True)
    penalty = (total - kept @ signs.T) / 2
    # Below 1, so that no penalty outweighs a bit; rounded, so that equal codes are equal.
    order = np.round(far + penalty / (total + 1), 9)
    return np.stack([np.unique(row, return_inverse=True)[1] for row in order])


def average_precision(distances: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Expected average precision, float64 (q,), of each query.

    Args:
        distances: int64 (q, n), not negative.
        relevant: bool (q, n); queries without relevant entries get 0.

    Within a tie of ``n`` entries, ``r`` of them relevant, behind ``s`` entries with ``R``
    relevant ones, each position ``s + j`` holds a relevant one with probability ``r/n``, and then
    ``R + 1 + (j − 1)·(r − 1)/(n − 1)`` relevant ones are expected up to it.
    """
    return np.array(
        [_average_precision(row, wanted) for row, wanted in zip(distances, relevant, strict=True)]
    )


def _average_precision(distances: np.ndarray, relevant: np.ndarray) -> float:
    size = np.bincount(distances)
    hits = np.bincount(distances[relevant], minlength=len(size))
    before, hits_before = np.cumsum(size) - size, np.cumsum(hits) - hits
    group = np.repeat(np.arange(len(size)), size)
    place = np.arange(1, len(distances) + 1)
    others = place - before[group] - 1
    n, r = size[group], hits[group]
    expected = hits_before[group] + 1 + others * (r - 1) / np.maximum(n - 1, 1)
    return float((r / n * expected / place).sum() / max(int(hits.sum()), 1))


def precision_at(distances: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Expected share of relevant entries, float64 (q,), among the ``k`` nearest of each query."""
    out = np.zeros(len(distances))
    for query, (row, wanted) in enumerate(zip(distances, relevant, strict=True)):
        size = np.bincount(row)
        hits = np.bincount(row[wanted], minlength=len(size))
        taken = np.clip(k - (np.cumsum(size) - size), 0, size)
        out[query] = (hits * taken / np.maximum(size, 1)).sum() / k
    return out
