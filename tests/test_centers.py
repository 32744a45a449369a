"""Reconstruction of sparse clouds by one point a node."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pccodec import codec, container
from pccodec.codec.centers import is_sparse, node_centers
from pccodec.evaluation.metrics import Reference
from pccodec.model.upsampling import Partial
from pccodec.voxels import morton


def test_sparse_is_told_by_the_finest_growth() -> None:
    assert is_sparse((100, 80, 60)) and not is_sparse((400, 100, 25)) and not is_sparse((1,))


@given(st.integers(1, 6), st.integers(0, 7))
def test_centres_lie_within_half_a_node_of_all_its_voxels(level: int, octant: int) -> None:
    codes = np.array([octant], dtype=np.uint64)
    center = morton.decode(node_centers(codes, level, None))[0]
    corner = morton.decode(codes)[0] << level
    assert (center - corner == 1 << (level - 1)).all()


def test_known_children_replace_their_node_unless_more_are_to_come() -> None:
    codes = np.array([0, 1, 2], dtype=np.uint64)
    occupancy = np.array([0b1, 0b1, 0], dtype=np.uint8)
    known = np.full(3, 0b1111, dtype=np.uint8)
    expected = np.full((3, 8), -1000, dtype=np.int32)
    expected[1, 6] = 1000
    found = set(node_centers(codes, 1, Partial(occupancy, known, expected)).tolist())
    # Node 0: its child. Node 1: its child and the centre. Node 2: the centre, nothing is known of it.
    assert found == {0, 8, 8 + 7, 16 + 7}


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
