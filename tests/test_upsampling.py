"""Choice of the most probable children under what is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pccodec.model.upsampling import Partial, select_children
from pccodec.voxels.octree import POPCOUNT, unpack

MANY = 1 << 40


def _logits(seed: int, nodes: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(nodes, 8)).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 400))
def test_keeps_the_count_and_the_most_probable(seed: int, nodes: int, count: int) -> None:
    logits = _logits(seed, nodes)
    chosen = unpack(select_children(logits, count, MANY, None, every_node=False))
    assert chosen.sum() == min(max(count, 1), 8 * nodes)
    if 0 < chosen.sum() < 8 * nodes:
        assert logits[chosen].min() >= logits[~chosen].max()


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 400))
def test_exact_nodes_have_a_child(seed: int, nodes: int, count: int) -> None:
    occupancy = select_children(_logits(seed, nodes), count, MANY, None, every_node=True)
    assert (occupancy != 0).all()
    assert POPCOUNT[occupancy].sum() == min(max(count, nodes), 8 * nodes)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 8))
def test_known_children_are_kept_as_they_are(seed: int, nodes: int, octants: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 256, nodes).astype(np.uint8)
    known = np.full(nodes, (1 << octants) - 1, dtype=np.uint8)
    partial = Partial(truth & known, known, _logits(seed + 1, nodes))
    count = int(POPCOUNT[truth].sum())
    chosen = select_children(_logits(seed, nodes), count, MANY, partial, every_node=True)
    assert ((chosen & known) == partial.occupancy).all()
    assert (chosen != 0).all() or octants == 8
    if octants == 8:
        assert (chosen == truth).all()


def test_an_unknown_count_is_the_expected_one_and_the_budget_limits_it() -> None:
    logits = np.full((100, 8), -20.0, dtype=np.float32)
    logits[:, :3] = 20.0
    assert POPCOUNT[select_children(logits, None, MANY, None, every_node=False)].sum() == 300
    assert POPCOUNT[select_children(logits, None, 50, None, every_node=False)].sum() == 50
