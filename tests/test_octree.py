"""Morton codes, octree levels and neighbour maps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pccodec.sparse.neighbors import CENTER, child_map, root_map
from pccodec.voxels import morton, octree

clouds = npst.arrays(np.int64, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(0, 31))


@given(npst.arrays(np.int64, st.tuples(st.integers(1, 50), st.just(3)), elements=st.integers(0, 2**21 - 1)))
def test_morton_codes_return_the_coordinates(coords: np.ndarray) -> None:
    assert (morton.decode(morton.encode(coords)) == coords).all()


def test_morton_order_puts_x_first_and_the_parent_above() -> None:
    codes = morton.encode(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0]]))
    assert codes.tolist() == [4, 2, 1, 32]
    assert (codes >> np.uint64(3)).tolist() == [0, 0, 0, 4]


@given(clouds)
def test_levels_lead_back_to_the_voxels(coords: np.ndarray) -> None:
    tree = octree.Octree.build(np.unique(morton.encode(coords)), 5)
    assert tree.codes[5].tolist() == [0]
    codes = tree.codes[5]
    for level in range(4, -1, -1):
        assert (octree.pack_rows(octree.unpack_rows(tree.occupancy[level])) == tree.occupancy[level]).all()
        codes = octree.expand(codes, tree.occupancy[level])
        assert (codes == tree.codes[level]).all()


@given(clouds)
def test_maps_hold_exactly_the_neighbours(coords: np.ndarray) -> None:
    tree = octree.Octree.build(np.unique(morton.encode(coords)), 5)
    neighbors = root_map()
    for level in range(4, 0, -1):
        neighbors = child_map(neighbors, tree.occupancy[level])
    nodes = morton.decode(tree.codes[1])
    place = {tuple(node): index for index, node in enumerate(nodes.tolist())}
    for index, node in enumerate(nodes.tolist()):
        assert neighbors[index, CENTER] == index
        for column in range(27):
            offset = (column // 9 - 1, column // 3 % 3 - 1, column % 3 - 1)
            there = tuple(a + b for a, b in zip(node, offset, strict=True))
            assert neighbors[index, column] == place.get(there, len(nodes))
