"""Reconstruction of sparse clouds by the points that are expected in each node."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pccodec import codec, container
from pccodec.codec.expected_points import expected_points, is_sparse, node_centers
from pccodec.evaluation.metrics import Reference
from pccodec.model.probability import probability
from pccodec.model.upsampling import Partial
from pccodec.voxels import morton


def test_sparse_is_told_by_the_finest_growth() -> None:
    assert (
        is_sparse((100, 80, 60))
        and not is_sparse((200, 100, 60))
        and not is_sparse((400, 100, 25))
        and not is_sparse((1,))
    )


@given(st.integers(1, 6), st.integers(0, 7))
def test_centres_lie_within_half_a_node_of_all_its_voxels(level: int, octant: int) -> None:
    codes = np.array([octant], dtype=np.uint64)
    center = morton.decode(node_centers(codes, level))[0]
    corner = morton.decode(codes)[0] << level
    assert (center - corner == 1 << (level - 1)).all()


def test_known_children_replace_their_node_unless_more_are_to_come() -> None:
    codes = np.array([0, 1, 2, 3], dtype=np.uint64)
    occupancy = np.array([0b1, 0b1, 0, 0b1], dtype=np.uint8)
    known = np.full(4, 0b1111, dtype=np.uint8)
    expected = np.full((4, 8), -1000, dtype=np.int32)
    expected[1, 6] = 1000
    expected[3, [4, 5]] = -10
    found = set(expected_points(codes, 1, Partial(occupancy, known, expected), 9).tolist())
    # Node 0: its child. Node 1: its child, and a likely one. Node 2: one of the four that may still be
    # there, in the upper half of x. Node 3: its child, and one for two that are almost as likely as not.
    assert found == {0, 8, 8 + 6, 16 + 7, 24, 24 + 5}


def test_there_are_not_many_more_points_than_the_cloud_has() -> None:
    codes, nothing = np.array([0, 1], dtype=np.uint64), np.zeros(2, dtype=np.uint8)
    expected = np.array([[900, 800, 700, 600, 0, 0, 0, 0], [50, *[-2000] * 7]], dtype=np.int32)
    # Of five likely children three have room; what is left of each node is one point.
    found = expected_points(codes, 1, Partial(nothing, nothing, expected), 3).tolist()
    assert found[:3] == [0, 1, 2] and len(found) == 5 and found[4] == 8


@given(st.integers(1, 8), st.lists(st.integers(-900, -50), min_size=8, max_size=8))
def test_unlikely_children_are_one_point_at_their_mean(level: int, logits: list[int]) -> None:
    nothing = np.zeros(1, dtype=np.uint8)
    partial = Partial(nothing, nothing, np.array([logits], dtype=np.int32))
    found = morton.decode(expected_points(np.array([5], dtype=np.uint64), level, partial, 1))
    centers = (
        morton.decode(np.arange(40, 48, dtype=np.uint64)) * (1 << level - 1) + ((1 << level - 1) - 1) / 2
    )
    weights = probability(np.array(logits))
    mean = (centers * weights[:, None]).sum(axis=0) / weights.sum()
    assert len(found) == 1 and np.abs(found[0] - mean).max() <= 0.5


def test_quality_of_a_sparse_cloud_never_falls() -> None:
    rng = np.random.default_rng(3)
    points = rng.integers(0, 256, (1500, 3)) // [1, 1, 4]
    reference, data = Reference(points), codec.encode(points)
    head = container.parse(data).header_size
    quality = [
        reference.compare(codec.decode(data[:size])).d1_psnr
        for size in np.linspace(head, len(data), 25).astype(int)
    ]
    assert (np.diff(quality) > -0.05).all()
