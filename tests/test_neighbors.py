"""Neighbour maps of all levels of an octree, against a search of every neighbour."""

from __future__ import annotations

import numpy as np
import pytest

from pccodec.sparse.neighbors import level_maps
from pccodec.voxels import morton, octree

DEPTH = 4


@pytest.mark.parametrize("roots", [1, 2])
def test_maps_of_all_levels_are_found_by_search(roots: int) -> None:
    rng = np.random.default_rng(roots)
    # The roots stand for clouds beside each other in Morton order that know nothing of each other.
    clouds = [np.unique(morton.encode(rng.integers(0, 1 << DEPTH, (150, 3)))) for _ in range(roots)]
    joined = np.concatenate([cloud | np.uint64(i << (3 * DEPTH)) for i, cloud in enumerate(clouds)])
    tree = octree.Octree.build(joined, DEPTH)
    maps = level_maps(tree, roots)
    assert len(maps) == DEPTH + 1 and maps[0].shape == (0, 27)
    for level in range(1, DEPTH + 1):
        bits = 3 * (DEPTH - level)
        nodes = [
            (int(code) >> bits, *morton.decode(np.array([int(code) & ((1 << bits) - 1)], dtype=np.uint64))[0])
            for code in tree.codes[level]
        ]
        place = {node: index for index, node in enumerate(nodes)}
        expected = [
            [
                place.get((root, x + k // 9 - 1, y + k // 3 % 3 - 1, z + k % 3 - 1), len(nodes))
                for k in range(27)
            ]
            for root, x, y, z in nodes
        ]
        np.testing.assert_array_equal(maps[level], expected)
