"""Local contexts: what they say, that they fit their tables and look at nothing unknown."""

from __future__ import annotations

import numpy as np
import pytest

from pccodec.entropy.contexts import SIZES, LocalContexts
from pccodec.sparse import neighbors as maps
from tests.test_occupancy import sphere


@pytest.mark.parametrize("octant", range(8))
def test_keys_fit_their_tables_and_ignore_bits_to_come(octant: int) -> None:
    neighbors, occupancy, _ = sphere()
    contexts = LocalContexts(neighbors)
    keys = contexts.keys(octant, occupancy)
    assert keys.shape == (len(SIZES), len(occupancy))
    assert keys.min() >= 0
    assert (keys.max(axis=1) < SIZES).all()
    future = np.uint8(255 << octant & 255)
    np.testing.assert_array_equal(contexts.keys(octant, occupancy ^ future), keys)


def test_a_face_neighbour_in_the_next_node_is_seen() -> None:
    # Two nodes side by side along z: octant 0 of the second lies behind octant 1 of the first.
    neighbors = maps.root_map(2)
    neighbors[0, 14], neighbors[1, 12] = 1, 0
    contexts = LocalContexts(neighbors)
    near = contexts.keys(1, np.array([0, 1], dtype=np.uint8))
    far = contexts.keys(1, np.array([0, 0], dtype=np.uint8))
    assert near[1, 0] != far[1, 0] and near[2, 0] != far[2, 0]
    # The second node's own octant 0 is a sibling and a face neighbour of its octant 1.
    assert near[0, 1] == 1 and far[0, 1] == 0
    assert near[1, 1] != far[1, 1]
