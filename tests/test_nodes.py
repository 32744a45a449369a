"""Tensors of octree nodes: the same as the codec's arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.model import upsampling
from pccodec.model.analysis import descriptor
from pccodec.sparse.neighbors import level_maps
from pccodec.training import nodes
from pccodec.training.block_pool import DeviceBatch, mirrored
from pccodec.voxels import morton, octree

DEPTH = 5
BLOCK_BITS = 7


def _codes(seed: int, count: int = 300, depth: int = DEPTH) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(0, 1 << 3 * depth, count).astype(np.uint64))


def _tensor(codes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(codes.astype(np.int64))


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_trees_are_those_of_the_codec(seed: int) -> None:
    codes = _codes(seed)
    expected, found = octree.Octree.build(codes, DEPTH), nodes.Tree.build(_tensor(codes), DEPTH)
    for level, neighbors in enumerate(level_maps(expected)):
        np.testing.assert_array_equal(found.codes[level].numpy(), expected.codes[level].astype(np.int64))
        np.testing.assert_array_equal(found.maps[level].numpy(), neighbors)
    for level in range(DEPTH):
        np.testing.assert_array_equal(found.occupancy[level].numpy(), expected.occupancy[level])
        below = nodes.expand(found.codes[level + 1], found.occupancy[level])
        np.testing.assert_array_equal(below.numpy(), found.codes[level].numpy())
    for level in (3, 2, 1):
        np.testing.assert_array_equal(
            nodes.descriptor(found, level).numpy(), descriptor(expected, level), strict=True
        )


def test_children_of_nodes_that_do_not_exist_are_none() -> None:
    tree = nodes.Tree.build(_tensor(_codes(1)), DEPTH)
    asked = torch.arange(1 << 3 * (DEPTH - 2))
    found = nodes.true_children(tree, 2, asked)
    np.testing.assert_array_equal(torch.nonzero(found)[:, 0].numpy(), tree.codes[2].numpy())
    np.testing.assert_array_equal(found[tree.codes[2]].numpy(), tree.occupancy[1].numpy())


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 30), st.sampled_from([3, 300]))
@settings(max_examples=40, deadline=None)
def test_children_are_selected_as_in_decoding(seed: int, groups: int, size: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-spread, spread + 1, (groups * size, 8)).astype(np.int32)
    counts = rng.integers(0, 10 * size, groups)
    group = np.repeat(np.arange(groups), size)
    found = nodes.select_children(
        torch.from_numpy(logits), torch.from_numpy(group), torch.from_numpy(counts)
    ).numpy()
    for index, count in enumerate(counts):
        expected = upsampling.select_children(logits[group == index], int(count), None)
        np.testing.assert_array_equal(found[group == index], expected)


def test_occupancy_is_packed_and_unpacked() -> None:
    bytes_ = torch.arange(256).to(torch.uint8)
    np.testing.assert_array_equal(nodes.unpack(bytes_).numpy(), octree.unpack(bytes_.numpy()))
    assert (nodes.pack(nodes.unpack(bytes_)) == bytes_).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_blocks_are_turned_about_their_own_center(axes: tuple[int, ...]) -> None:
    blocks = [_codes(seed, depth=BLOCK_BITS) for seed in (1, 2)]
    joined = torch.cat([_tensor(codes) | index << 3 * BLOCK_BITS for index, codes in enumerate(blocks)])
    flips = np.array([[0, 0, 0], [1, 0, 1]])
    turned = mirrored(joined, torch.tensor([axes, axes]), torch.from_numpy(flips))
    batch = DeviceBatch.of(torch.sort(turned).values)
    for index, codes in enumerate(blocks):
        coords = morton.decode(codes)[:, axes]
        coords = np.where(flips[index], (1 << BLOCK_BITS) - 1 - coords, coords)
        mine = (
            batch.tree.codes[0][batch.block_of(batch.tree.codes[0], 0) == index] & (1 << 3 * BLOCK_BITS) - 1
        )
        np.testing.assert_array_equal(mine.numpy(), np.sort(morton.encode(coords)).astype(np.int64))
        assert batch.counts[index, 0] == len(codes)
