"""Prediction of coarse levels by the geometry network, with the shipped model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pccodec import io
from pccodec.codec.coarse import down_to_synthesis
from pccodec.entropy.completion import expected_children
from pccodec.entropy.geometry import LevelContext
from pccodec.entropy.prediction import predict_level
from pccodec.model import store
from pccodec.model.probability import PRECISION, PROBABILITY, expected_ones
from pccodec.model.upsampling import Known, Partial
from pccodec.sparse import neighbors as maps
from pccodec.voxels import morton, octree
from pccodec.voxels.octree import Octree

SAMPLE = Path(__file__).parents[1] / "data" / "human_vox8.ply"


@pytest.fixture(scope="module")
def tree() -> Octree:
    return Octree.build(np.unique(morton.encode(io.read(SAMPLE).points)), 8)


@pytest.fixture(scope="module")
def neighbors(tree: Octree) -> dict[int, np.ndarray]:
    found = {tree.depth: maps.root_map()}
    for level in range(tree.depth - 1, 0, -1):
        found[level] = maps.child_map(found[level + 1], tree.occupancy[level])
    return found


def _context(tree: Octree, neighbors: dict[int, np.ndarray], level: int) -> LevelContext:
    counts = {above: len(codes) for above, codes in enumerate(tree.codes)}
    return LevelContext(neighbors[level + 1], level, counts, tree.codes[level + 1])


def test_expected_ones_are_the_rounded_sum_of_probabilities() -> None:
    logits = np.arange(-3000, 3001, 7)
    total = PROBABILITY[np.clip(logits, -2047, 2047) + 2047].sum() / (1 << PRECISION)
    assert expected_ones(logits) == round(total)
    assert expected_ones(np.array([], dtype=np.int64)) == 0


@pytest.mark.parametrize("level", [3, 4])
def test_predicts_far_better_than_chance_and_keeps_the_count(
    tree: Octree, neighbors: dict[int, np.ndarray], level: int
) -> None:
    truth, count = tree.occupancy[level], len(tree.codes[level])
    context = _context(tree, neighbors, level)
    occupancy = predict_level(store.load().geometry, context, count=count, most=count, partial=None)
    assert octree.POPCOUNT[occupancy].sum() == count and (occupancy != 0).all()
    right, chance = octree.POPCOUNT[occupancy & truth].sum() / count, count / (8 * len(truth))
    assert right > chance + 0.2 * (1 - chance)


def test_more_known_bits_leave_fewer_wrong_ones(tree: Octree, neighbors: dict[int, np.ndarray]) -> None:
    network, context, truth = store.load().geometry, _context(tree, neighbors, 3), tree.occupancy[3]
    wrong = []
    for octants in (0, 2, 5, 7):
        known = np.full(len(truth), (1 << octants) - 1, dtype=np.uint8)
        expected = expected_children(network, context, truth, octants)
        assert expected.dtype == np.int32
        partial = Partial(truth & known, known, expected)
        found = predict_level(network, context, count=None, most=1 << 40, partial=partial)
        assert (found & known == truth & known).all()
        wrong.append(int(octree.POPCOUNT[found ^ truth].sum()))
    assert wrong == sorted(wrong, reverse=True) and wrong[-1] < 0.1 * wrong[0]


def test_synthesis_starts_at_stride_8_below_predicted_nodes(
    tree: Octree, neighbors: dict[int, np.ndarray]
) -> None:
    counts = {level: len(tree.codes[level]) for level in (0, 1, 2, 3, 5, 6, 7, 8)}
    known = Known({level: tree.codes[level] for level in (5, 6, 7, 8)}, neighbors, counts)
    found = down_to_synthesis(known, store.load().geometry)
    assert set(found.codes) == {3} and not found.exact
    assert len(found.codes[3]) == counts[3] == len(found.maps[3])
    assert 4 in found.counts
    exact = Known({3: tree.codes[3]}, neighbors, counts)
    assert down_to_synthesis(exact, store.load().geometry) is exact
