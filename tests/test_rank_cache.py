"""Latent ranks of simulated clouds, stored beside them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from pccodec.model.store import Model
from pccodec.sparse.neighbors import child_map
from pccodec.training import rank_cache
from pccodec.training.geometry import load_pool
from pccodec.training.levels import CloudCache, octree_of
from pccodec.training.rank_cache import RankCache, cloud_ranks
from pccodec.voxels import morton
from pccodec.voxels.octree import Octree

CONFIG = SimpleNamespace(ranks={3: 4, 2: 2, 1: 0})
MODEL = cast(
    Model, SimpleNamespace(config=CONFIG, analysis="analysis", synthesis="synthesis", id=bytes(range(8)))
)


def _plane(size: int) -> np.ndarray:
    x, y = np.mgrid[:size, :size]
    return np.unique(morton.encode(np.stack([x, y, (x + y) // 3], axis=-1).reshape(-1, 3)))


def _scattered(seed: int) -> np.ndarray:
    return np.unique(morton.encode(np.random.default_rng(seed).integers(0, 256, (2500, 3))))


def _symbols(codes: np.ndarray, ranks: int) -> np.ndarray:
    """Ranks that follow from the node that they belong to."""
    return ((codes[:, None] >> np.arange(ranks, dtype=np.uint64)) % np.uint64(5)).astype(np.int8) - np.int8(2)


def _latent_ranks(
    analysis: Any, synthesis: Any, tree: Octree, neighbors: list[np.ndarray], wanted: Mapping[int, int]
) -> dict[int, np.ndarray]:
    assert (analysis, synthesis) == ("analysis", "synthesis")
    for level in range(1, tree.depth):
        np.testing.assert_array_equal(
            neighbors[level], child_map(neighbors[level + 1], tree.occupancy[level])
        )
    return {level: _symbols(tree.codes[level], ranks) for level, ranks in wanted.items()}


@pytest.fixture(autouse=True)
def _no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_cache, "latent_ranks", _latent_ranks)


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    """A file of a sparse cloud between two dense ones."""
    codes = [_plane(64), _scattered(0), _plane(100)]
    file = tmp_path / "clouds.npz"
    np.savez(
        file,
        codes=np.concatenate(codes),
        offsets=np.cumsum([0] + [len(part) for part in codes]),
        kinds=np.array(["dense", "spinning", "dense"]),
    )
    return file


def test_ranks_are_those_that_the_model_has() -> None:
    octree = octree_of(_plane(64))
    found = cloud_ranks(MODEL, octree)
    assert {level: symbols.shape for level, symbols in found.items()} == {
        3: (len(octree.codes[3]), 4),
        2: (len(octree.codes[2]), 2),
    }


def test_sparse_and_shallow_clouds_have_none() -> None:
    assert cloud_ranks(MODEL, octree_of(_scattered(1))) == {}
    assert list(cloud_ranks(MODEL, octree_of(_plane(6)))) == [2]


def test_stored_ranks_come_back_with_their_clouds(clouds: Path) -> None:
    built = RankCache.build(MODEL, CloudCache(clouds), clouds.with_suffix(".ranks.npz"))
    read = RankCache(clouds.with_suffix(".ranks.npz"))
    assert len(built) == len(read) == 3
    assert read.ranks(1) == {}
    for index in (0, 2):
        octree = CloudCache(clouds).octree(index)
        assert list(read.ranks(index)) == [3, 2]
        for level, symbols in read.ranks(index).items():
            np.testing.assert_array_equal(symbols, _symbols(octree.codes[level], CONFIG.ranks[level]))


def test_clouds_are_loaded_with_ranks_that_are_computed_once(
    clouds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, device = Console(file=io.StringIO()), torch.device("cpu")
    load_pool([clouds], MODEL, console, device)
    monkeypatch.delattr(rank_cache, "latent_ranks")
    pool = load_pool([clouds], MODEL, console, device)
    depths = [octree_of(CloudCache(clouds).codes(index)).depth for index in range(3)]
    with_ranks = [[0, 2, 4] + [0] * (depth - 3) for depth in depths]
    assert pool.sent.tolist() == [*with_ranks[0], *[0] * depths[1], *with_ranks[2]]
    row = depths[0] + depths[1] + 2
    count = int(pool.begins[row + 1] - pool.begins[row])
    batch = pool.take([int(pool.begins[row])], [count], pool.sent)
    codes = CloudCache(clouds).octree(2).codes[3]
    assert batch.ranks is not None
    np.testing.assert_array_equal(batch.ranks.numpy(), _symbols(codes, 4))
    assert not load_pool([clouds], None, console, device).sent.any()
