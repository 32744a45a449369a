"""Coder of the latent ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pccodec.entropy.ranks import CONTEXTS, SYMBOLS, RankCoder, contexts, tables_from_counts
from pccodec.model.config import LIMIT
from pccodec.sparse.neighbors import child_map, root_map


def _line(nodes: int) -> np.ndarray:
    """Neighbour map of up to 8 + 64 nodes below a full cube."""
    neighbors = child_map(root_map(), np.array([255], dtype=np.uint8))
    return child_map(neighbors, np.full(8, 255, dtype=np.uint8))[:nodes].clip(max=nodes)


def _coder(ranks: int, seed: int = 0) -> RankCoder:
    counts = np.random.default_rng(seed).integers(0, 1000, (ranks, CONTEXTS, SYMBOLS))
    return RankCoder(tables_from_counts(counts))


@given(npst.arrays(np.float64, (3, SYMBOLS), elements=st.floats(0, 1e9)))
def test_tables_sum_to_a_power_of_two_and_allow_every_symbol(counts: np.ndarray) -> None:
    tables = tables_from_counts(counts)
    assert tables.dtype == np.uint32
    assert (tables.sum(axis=1) == 1 << 16).all()
    assert tables.min() >= 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 64))
def test_round_trip_of_all_ranks(seed: int, nodes: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.integers(-LIMIT, LIMIT + 1, (nodes, 3)).astype(np.int8)
    neighbors, coder = _line(nodes), _coder(3)
    for rank in range(3):
        data = coder.encode(neighbors, symbols[:, :rank], symbols[:, rank])
        decoded = coder.decode(neighbors, symbols[:, :rank], data, complete=True)
        assert (decoded == symbols[:, rank]).all()


def test_every_prefix_gives_a_right_beginning_that_grows() -> None:
    rng = np.random.default_rng(1)
    symbols = rng.integers(-2, 3, (64, 1)).astype(np.int8)
    neighbors, coder = _line(64), _coder(1)
    data = coder.encode(neighbors, symbols[:, :0], symbols[:, 0])
    reached = 0
    for size in range(len(data)):
        decoded = coder.decode(neighbors, symbols[:, :0], data[:size], complete=False)
        assert (decoded == symbols[: len(decoded), 0]).all()
        assert len(decoded) >= reached
        reached = len(decoded)
    assert reached > 50


@pytest.mark.parametrize("earlier", [0, 1, 3])
def test_contexts_stay_in_range_and_use_what_came_before(earlier: int) -> None:
    rng = np.random.default_rng(2)
    before = rng.integers(-1, 2, (64, earlier)).astype(np.int8)
    rows = contexts(_line(64), before)
    assert rows.min() >= 0 and rows.max() < CONTEXTS
    assert len(np.unique(rows)) > 1
