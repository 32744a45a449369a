"""Sparse convolution against dense ``conv3d``, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pccodec.sparse import conv
from pccodec.sparse.conv import OccupancyConv, SparseConv
from pccodec.sparse.neighbors import child_map, root_map
from pccodec.voxels import morton, octree

SIDE = 8


def _nodes(seed: int, count: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (n, 3) of scattered nodes of an 8³ level, and their neighbour map."""
    coords = np.random.default_rng(seed).integers(0, SIDE, (count, 3))
    tree = octree.Octree.build(np.unique(morton.encode(coords)), 3)
    neighbors = root_map()
    for level in (2, 1, 0):
        neighbors = child_map(neighbors, tree.occupancy[level])
    return torch.from_numpy(morton.decode(tree.codes[0]).astype(np.int64)), torch.from_numpy(neighbors)


def _dense(features: torch.Tensor, coords: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    grid = features.new_zeros(1, features.shape[1], SIDE, SIDE, SIDE)
    grid[0, :, coords[:, 0], coords[:, 1], coords[:, 2]] = features.t()
    kernel = weight.view(3, 3, 3, *weight.shape[1:]).permute(4, 3, 0, 1, 2)
    out = functional.conv3d(grid, kernel, padding=1)
    return out[0, :, coords[:, 0], coords[:, 1], coords[:, 2]].t()


@pytest.mark.parametrize("chunk", [7, 4096])
def test_equals_dense_convolution_with_its_gradients(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv, "CHUNK", chunk)
    torch.manual_seed(0)
    coords, neighbors = _nodes(0)
    layer = SparseConv(5, 4).double()
    features = torch.randn(len(coords), 5, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(len(coords), 4, dtype=torch.float64)
    out = layer(features, neighbors)
    expected = _dense(features, coords, layer.weight) + layer.bias
    assert torch.allclose(out, expected)
    got = torch.autograd.grad((out * probe).sum(), [features, layer.weight, layer.bias])
    want = torch.autograd.grad((expected * probe).sum(), [features, layer.weight, layer.bias])
    # The weight's gradient is summed in fp32 whatever the features' dtype.
    for mine, reference in zip(got, want, strict=True):
        assert torch.allclose(mine, reference, atol=1e-4, rtol=1e-4)


def test_bf16_features_are_convolved_in_bf16() -> None:
    torch.manual_seed(0)
    coords, neighbors = _nodes(1)
    layer = SparseConv(8, 8)
    features = torch.randn(len(coords), 8)
    exact, low = layer(features, neighbors), layer(features.bfloat16(), neighbors)
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_occupancy_convolution_is_a_convolution_of_ones() -> None:
    torch.manual_seed(0)
    coords, neighbors = _nodes(2)
    layer = OccupancyConv(6)
    weight = layer.linear.weight.t()[:, None, :]
    expected = _dense(torch.ones(len(coords), 1), coords, weight) + layer.linear.bias
    assert torch.allclose(layer(neighbors, torch.float32), expected, atol=1e-5)
