"""Retrieval metrics against their definition, averaged over all orders of tied entries."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.evaluation.retrieval import average_precision, hamming, precision_at, search_ranks
from pccodec.hashing.search import nearest


def _by_definition(distances: list[int], relevant: list[bool], k: int) -> tuple[float, float]:
    """Mean average precision and precision at k over all rankings that the distances allow."""
    precisions, shares = [], []
    for order in permutations(range(len(distances))):
        if any(distances[a] > distances[b] for a, b in pairwise(order)):
            continue
        hits = np.array([relevant[i] for i in order])
        at = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        precisions.append(at[hits].mean() if hits.any() else 0.0)
        shares.append(hits[:k].sum() / k)
    return float(np.mean(precisions)), float(np.mean(shares))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6), st.integers(1, 4))
def test_expectations_over_ties_are_exact(entries: list[tuple[int, bool]], k: int) -> None:
    distances, relevant = [d for d, _ in entries], [r for _, r in entries]
    precision, share = _by_definition(distances, relevant, k)
    table, wanted = np.array([distances]), np.array([relevant])
    np.testing.assert_allclose(average_precision(table, wanted), [precision], atol=1e-12)
    np.testing.assert_allclose(precision_at(table, wanted, k), [share], atol=1e-12)


def test_hamming_counts_the_first_bits_alone() -> None:
    rng = np.random.default_rng(0)
    queries, database = rng.random((5, 64)) < 0.5, rng.random((7, 64)) < 0.5
    for bits in (1, 8, 64):
        expected = (queries[:, None, :bits] != database[None, :, :bits]).sum(2)
        assert (hamming(queries, database, bits) == expected).all()


def test_the_ranks_of_search_are_those_that_search_shows() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(-9, 10, (4, 64)).astype(np.float32)
    database = rng.random((40, 64)) < 0.5
    database[30] = database[3]
    codes = np.packbits(database, axis=1).view(">u8")[:, 0].astype(np.uint64)
    for bits in (3, 16, 64):
        ranks = search_ranks(values, database, bits)
        assert (ranks[:, 30] == ranks[:, 3]).all()
        for row, value in zip(ranks, values, strict=True):
            query = int(np.packbits(value > 0).view(">u8")[0])
            assert (np.argsort(row, kind="stable") == nearest(codes, query, 40, bits, np.abs(value))[0]).all()
