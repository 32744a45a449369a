"""Choice of the most probable children under what is known."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pccodec.model.upsampling import Partial, highest, most_nodes, select_children
from pccodec.voxels.octree import POPCOUNT, unpack


def _logits(seed: int, nodes: int) -> np.ndarray:
    # Few values, so that many are equal.
    return 64 * np.random.default_rng(seed).integers(-9, 10, (nodes, 8)).astype(np.int32)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 400))
def test_keeps_the_count_and_a_child_of_each_node(seed: int, nodes: int, count: int) -> None:
    logits = _logits(seed, nodes)
    occupancy = select_children(logits, count, None)
    assert (occupancy != 0).all()
    assert POPCOUNT[occupancy].sum() == min(max(count, nodes), 8 * nodes)
    best = unpack(occupancy)[np.arange(nodes), logits.argmax(axis=1)]
    assert best.all()


@given(st.integers(0, 1000), st.integers(2, 40))
def test_children_of_a_node_are_its_most_probable(seed: int, nodes: int) -> None:
    logits = _logits(seed, nodes)
    chosen = unpack(select_children(logits, 4 * nodes, None))
    for row, kept in zip(logits, chosen, strict=True):
        assert kept.all() or row[kept].min() >= row[~kept].max()


def test_an_uncertain_node_keeps_its_share() -> None:
    """Four sure children here and four times a half there: both surfaces stay closed."""
    sure, unsure = [900] * 4 + [-900] * 4, [-128] * 8
    kept = POPCOUNT[select_children(np.array([sure, unsure, sure]), 10, None)]
    assert kept.tolist() == [4, round(8 / (1 + math.e)), 4]
    # Each of these sure children is more probable, yet the unsure node gets some.
    kept = POPCOUNT[select_children(np.array([[20] * 8, [0] * 8]), 8, None)]
    assert kept.min() >= 3


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 8))
def test_known_children_are_kept_as_they_are(seed: int, nodes: int, octants: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 256, nodes).astype(np.uint8)
    known = np.full(nodes, (1 << octants) - 1, dtype=np.uint8)
    partial = Partial(truth & known, known, _logits(seed + 1, nodes))
    count = int(POPCOUNT[truth].sum())
    chosen = select_children(_logits(seed, nodes), count, partial)
    assert ((chosen & known) == partial.occupancy).all()
    assert (chosen != 0).all() or octants == 8
    if octants == 8:
        assert (chosen == truth).all()


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 8), st.integers(0, 8))
def test_what_was_chosen_before_gives_way_to_known_bits(seed: int, nodes: int, then: int, now: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 256, nodes).astype(np.uint8)
    known, logits = np.full(nodes, (1 << max(then, now)) - 1, dtype=np.uint8), _logits(seed + 1, nodes)
    partial = Partial(truth & known, known, logits, min(then, now))
    before = partial.before
    assert (before.known == (1 << min(then, now)) - 1).all()
    assert (before.occupancy == truth & before.known).all()
    chosen = select_children(logits, int(POPCOUNT[truth].sum()), before)
    found = partial.correct(chosen, logits)
    assert ((found & known) == partial.occupancy).all()
    kept = (chosen & ~known) | partial.occupancy
    assert (found[kept != 0] == kept[kept != 0]).all()
    assert (POPCOUNT[found[kept == 0]] == 1).all()


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
