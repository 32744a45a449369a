"""Choice of the most probable children under what is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pccodec.model.upsampling import Partial, highest, most_nodes, select_children
from pccodec.voxels.octree import POPCOUNT, unpack


def _logits(seed: int, nodes: int) -> np.ndarray:
    # Few values, so that many are equal.
    return np.random.default_rng(seed).integers(-9, 10, (nodes, 8)).astype(np.int32)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 400))
def test_keeps_the_count_and_the_most_probable(seed: int, nodes: int, count: int) -> None:
    logits = _logits(seed, nodes)
    chosen = unpack(select_children(logits, count, None, every_node=False))
    assert chosen.sum() == min(max(count, 1), 8 * nodes)
    if 0 < chosen.sum() < 8 * nodes:
        assert logits[chosen].min() >= logits[~chosen].max()


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 400))
def test_exact_nodes_have_a_child(seed: int, nodes: int, count: int) -> None:
    occupancy = select_children(_logits(seed, nodes), count, None, every_node=True)
    assert (occupancy != 0).all()
    assert POPCOUNT[occupancy].sum() == min(max(count, nodes), 8 * nodes)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 8))
def test_known_children_are_kept_as_they_are(seed: int, nodes: int, octants: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 256, nodes).astype(np.uint8)
    known = np.full(nodes, (1 << octants) - 1, dtype=np.uint8)
    partial = Partial(truth & known, known, _logits(seed + 1, nodes))
    count = int(POPCOUNT[truth].sum())
    chosen = select_children(_logits(seed, nodes), count, partial, every_node=True)
    assert ((chosen & known) == partial.occupancy).all()
    assert (chosen != 0).all() or octants == 8
    if octants == 8:
        assert (chosen == truth).all()


@given(st.integers(0, 1000), st.integers(1, 300), st.data())
def test_of_equal_scores_the_first_are_taken(seed: int, size: int, data: st.DataObject) -> None:
    scores = np.random.default_rng(seed).integers(-3, 4, size)
    count = data.draw(st.integers(0, size))
    expected = np.zeros(size, dtype=bool)
    expected[np.argsort(-scores, kind="stable")[:count]] = True
    np.testing.assert_array_equal(highest(scores, count), expected)


def test_the_budget_shrinks_with_the_level() -> None:
    counts = {0: 500, 1: 120}
    assert most_nodes(1 << 40, counts, 2) == 120
    assert most_nodes(640, {}, 0) == 640 and most_nodes(640, {}, 1) == 320 and most_nodes(640, {}, 9) == 20
