"""Training of the geometry coder: its data, its batches, and twin against integer network."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from pccodec.entropy.geometry import LevelContext, second_group
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.probability import LOGIT_MAX, LOGIT_UNIT
from pccodec.model.rank_inputs import RANKS_MAX, NodeRanks
from pccodec.sparse import neighbors as maps
from pccodec.training import scans
from pccodec.training.geometry import (
    GeometryTraining,
    bit_cost,
    inputs,
    relative_size,
    remaining_cost,
    train,
)
from pccodec.training.geometry_twin import GeometryTwin, NetworkSize
from pccodec.training.level_pool import Batch, LevelPool, PoolConfig
from pccodec.training.levels import Level, levels_of, mirrored_cloud, octree_of
from pccodec.voxels import morton, octree

SMALL = NetworkSize(near=8, wide=8, hidden=16, mixed=8)


def _codes(seed: int = 0) -> np.ndarray:
    """A noisy sphere."""
    direction = np.random.default_rng(seed).normal(size=(20_000, 3))
    points = 30 + 25 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return np.unique(morton.encode(points.astype(np.int64)))


def _symbols(codes: np.ndarray, ranks: int) -> dict[int, np.ndarray]:
    """As many random ranks of the nodes at strides 8, 4 and 2."""
    rng, tree = np.random.default_rng(1), octree_of(codes)
    found = {
        level: rng.integers(-8, 9, (len(tree.codes[level]), ranks)).astype(np.int8) for level in (3, 2, 1)
    }
    return found if ranks else {}


def _pool(*ranks: int) -> LevelPool:
    """Of a cloud for each number of ranks."""
    clouds = [(_codes(seed), _symbols(_codes(seed), k)) for seed, k in enumerate(ranks)]
    return LevelPool(clouds, torch.device("cpu"))


def _whole(pool: LevelPool, *rows: int, sent: int = 0) -> Batch:
    """A batch of whole levels, in the order in which they stand in the pool."""
    begins = [int(pool.begins[row]) for row in rows]
    widths = [int(pool.begins[row + 1]) - begin for row, begin in zip(rows, begins, strict=True)]
    return pool.take(begins, widths, np.minimum(pool.sent, sent))


def _level(index: int) -> Level:
    return levels_of(octree_of(_codes()))[index]


def test_levels_lead_from_the_root_to_the_cloud() -> None:
    levels = levels_of(octree_of(_codes()))
    assert len(levels[-1].codes) == 1
    for above, level in zip(levels[1:], levels, strict=False):
        np.testing.assert_array_equal(octree.expand(above.codes, above.occupancy), level.codes)
        assert level.neighbors.shape == (len(level.codes), maps.KERNEL)


@pytest.mark.parametrize("index", [0, 1, 4])
def test_a_whole_level_of_the_pool_is_that_of_the_coder(index: int) -> None:
    level, batch = _level(index), _whole(_pool(0, 0), index)
    np.testing.assert_array_equal(batch.neighbors.numpy(), level.neighbors)
    np.testing.assert_array_equal(batch.bits.numpy(), octree.unpack(level.occupancy))
    np.testing.assert_array_equal(batch.second.numpy(), second_group(level.codes))
    context = LevelContext(level.neighbors, level.level, level.counts, level.codes)
    assert (batch.statistics.numpy() == context.statistics).all()
    assert batch.scored.all() and batch.parts == 1 and batch.sent is None


def test_a_part_has_all_its_neighbours_around_it() -> None:
    level, pool = _level(0), _pool(0)
    batch = pool.take([100], [300], np.zeros(len(pool.sent), dtype=np.int64))
    inside = batch.scored.numpy()
    np.testing.assert_array_equal(batch.bits[inside].numpy(), octree.unpack(level.occupancy[100:400]))
    every = np.append(level.occupancy, np.uint8(0))
    known = np.append(np.packbits(batch.bits.numpy().astype(bool), axis=1, bitorder="little"), np.uint8(0))
    np.testing.assert_array_equal(known[batch.neighbors[inside]], every[level.neighbors[100:400]])
    # What is beyond two neighbours is absent.
    assert 300 < len(batch.bits) < len(level.occupancy)
    assert (batch.neighbors.numpy()[:, maps.CENTER] == np.arange(len(batch.bits))).all()


@pytest.mark.parametrize("simulate", [scans.spinning_scan, scans.aerial_scan, scans.depth_capture])
def test_simulated_scans_are_clouds_of_some_size(
    simulate: Callable[[np.random.Generator], np.ndarray],
) -> None:
    points = simulate(np.random.default_rng(3))
    assert points.ndim == 2 and points.shape[1] == 3 and len(points) > 5000
    assert np.isfinite(points).all()
    assert (np.ptp(points, axis=0) > 3).all() and np.ptp(points, axis=0).max() < 2**20


def test_rays_hit_a_box_and_the_ground() -> None:
    scene = scans.Scene(
        np.array([[4.0, -1, -1]]),
        np.array([[6.0, 1, 2]]),
        np.zeros(1),
        np.zeros((0, 3)),
        np.zeros((0, 3)),
        np.zeros(2),
    )
    down = np.array([-1.0, 0, -1]) / np.sqrt(2)
    rays = np.stack([[1.0, 0, 0], down, [0, 0, 1.0]])
    distance = scans.cast(scene, np.array([0, 0, 1.0]), rays, np.random.default_rng(0), porosity=1.0)
    np.testing.assert_allclose(distance[:2], [4.0, np.sqrt(2)])
    assert distance[2] > 1e6


def test_batches_hold_parts_of_several_levels() -> None:
    config = PoolConfig(nodes_per_step=700, nodes_per_part=300)
    batch = _pool(0, 0).draw(config, np.random.default_rng(0))
    count = len(batch.bits)
    assert 600 <= int(batch.scored.sum()) <= 700
    assert batch.parts == int(batch.part.max()) + 1 >= 2
    assert batch.neighbors.shape == (count, 27) and int(batch.neighbors.max()) == count
    # No node's neighbours lie in another level.
    part = torch.cat([batch.part, torch.tensor([-1])])[batch.neighbors.long()]
    assert ((part == batch.part[:, None]) | (part == -1)).all()


def _integer_logits(
    network: OccupancyNetwork, level: Level, statistics: np.ndarray, symbols: np.ndarray | None
) -> np.ndarray:
    """Logits (n, 8), in integers, of a level coded with its true bits."""
    second = second_group(level.codes)
    order = np.argsort(second, kind="stable")
    place = np.append(np.argsort(order), len(order))
    ranks = None if symbols is None else NodeRanks(level.level + 1, symbols[order])
    state = network.begin(place[level.neighbors[order]], statistics, int((~second).sum()), ranks)
    out = np.empty((len(order), 8))
    for octant in range(8):
        for group in state.groups:
            for nodes, part in state.logits():
                out[order[nodes], octant] = part
            state.observe(level.occupancy[order[group]] >> octant & 1)
    return out


def _remaining(network: OccupancyNetwork, level: Level, statistics: np.ndarray) -> np.ndarray:
    """Logits (8, n, 8), in integers, of what remains when 0 to 7 octants of a level are known."""
    state, found = network.begin(level.neighbors, statistics, len(level.codes)), []
    for octant in range(8):
        found.append(state.told().remaining())
        for group in state.groups:
            state.observe(level.occupancy[group] >> octant & 1)
    return np.stack(found)


def test_the_network_of_the_bits_to_come_does_what_its_twin_does() -> None:
    torch.manual_seed(2)
    twin, level, batch = GeometryTwin(SMALL), _level(1), _whole(_pool(0), 1)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
        passes = twin.passes(batch.neighbors, batch.statistics, batch.bits, None, None, torch.float32)
        exact = torch.stack(
            [twin.remaining(m, sums, batch.neighbors, torch.float32) for m, sums in enumerate(passes)]
        )
    context = LevelContext(level.neighbors, level.level, level.counts, level.codes)
    got = _remaining(OccupancyNetwork.from_tensors(twin.tensors()), level, context.statistics)
    rounded = np.floor(exact.numpy() * LOGIT_UNIT + 0.5)
    np.testing.assert_array_equal(got, rounded.clip(-LOGIT_MAX, LOGIT_MAX))
    assert len(np.unique(got)) > 100


def test_the_network_of_the_bits_to_come_is_trained_alone(tmp_path: Path) -> None:
    config = GeometryTraining(SMALL, PoolConfig(nodes_per_step=500, nodes_per_part=300), remaining=True)
    console, device, file = Console(file=io.StringIO()), torch.device("cpu"), tmp_path / "out.safetensors"
    torch.manual_seed(0)
    begin = GeometryTwin(SMALL)
    torch.save(begin.state_dict(), tmp_path / "begin.pt")
    before, batch = begin.state_dict(), _whole(_pool(0), 0)
    trained = train(_pool(0), config, 0.04, file, console, tmp_path / "begin.pt", device)
    moved = {name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("remaining.") for name in moved)
    with torch.no_grad():
        costs = [float(remaining_cost(twin, batch)[:, 0].mean()) for twin in (trained, begin)]
    assert costs[0] < 0.9 * costs[1]


@pytest.mark.parametrize("sent", [0, 2, RANKS_MAX])
def test_the_integer_network_does_what_its_twin_does(sent: int) -> None:
    torch.manual_seed(0)
    twin = GeometryTwin(SMALL)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.startswith(("same", "ranks")) or name.endswith("bias"):
                parameter.normal_(std=0.2)
    level, symbols = _level(1), _symbols(_codes(), sent).get(2)
    context = LevelContext(level.neighbors, level.level, level.counts, level.codes)
    batch = _whole(_pool(sent), 1, sent=sent)
    with torch.no_grad():
        exact = twin(*inputs(batch), dtype=torch.float32)
        rough = twin(*inputs(batch))
    got = _integer_logits(OccupancyNetwork.from_tensors(twin.tensors()), level, context.statistics, symbols)
    rounded = np.floor(exact.numpy() * LOGIT_UNIT + 0.5)
    np.testing.assert_array_equal(got, rounded.clip(-LOGIT_MAX, LOGIT_MAX))
    assert len(np.unique(got)) > 100
    # In bf16, as in training, single logits differ, their cost does not.
    assert abs(float(bit_cost(rough, batch).mean() / bit_cost(exact, batch).mean()) - 1) < 0.03


def test_ranks_of_several_levels_in_one_batch_do_not_mix() -> None:
    torch.manual_seed(1)
    twin = GeometryTwin(SMALL)
    torch.nn.init.normal_(twin.ranks_bias)
    for parameter in twin.ranks.parameters():
        torch.nn.init.normal_(parameter)
    pool = _pool(3, 0)
    rows = [0, 1, 2, 3, *range(len(pool.sent) - 5, len(pool.sent))]
    with torch.no_grad():
        joint = twin(*inputs(_whole(pool, *rows, sent=3)), dtype=torch.float32)
        single = [twin(*inputs(_whole(pool, row, sent=3)), dtype=torch.float32) for row in rows]
    torch.testing.assert_close(joint, torch.cat(single), rtol=0, atol=0)


def test_parts_draw_every_number_of_ranks_and_often_none() -> None:
    pool, rng = _pool(3), np.random.default_rng(0)
    config = PoolConfig(nodes_per_step=100, nodes_per_part=100, level_shares=(0, 1, 0, 0))
    batches = [pool.draw(config, rng) for _ in range(600)]
    sent = np.array([int(batch.sent[0, 1]) for batch in batches if batch.sent is not None])
    assert 250 < (sent == 0).sum() < 350
    assert all(70 < (sent == k).sum() < 130 for k in (1, 2, 3))
    symbols = _symbols(_codes(), 3)[2]
    whole = _whole(pool, 1, sent=2)
    assert whole.ranks is not None
    np.testing.assert_array_equal(whole.ranks[:, :2].numpy(), symbols[:, :2])
    assert not whole.ranks[:, 2:].any()


def test_training_stores_a_network_that_hears_ranks_and_can_go_on(tmp_path: Path) -> None:
    # All parts are of G_0 and have ranks: a single step teaches something.
    config = GeometryTraining(
        SMALL,
        PoolConfig(nodes_per_step=500, nodes_per_part=300, without_ranks=0.0, level_shares=(1, 0, 0, 0)),
    )
    pool, console, device = _pool(2), Console(file=io.StringIO()), torch.device("cpu")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    deaf = {k: v for k, v in GeometryTwin(SMALL).state_dict().items() if not k.startswith("ranks")}
    torch.save(deaf, tmp_path / "deaf.pt")
    twin = train(pool, config, 0.005, first, console, tmp_path / "deaf.pt", device)
    heard = (twin.ranks_bias != 0).any(dim=2)
    assert heard[2, :2].any() and not heard[2, 2:].any() and not heard[:2].any()
    stored = load_file(first)
    assert OccupancyNetwork.from_tensors(stored).ranks.keys() == {3, 2, 1}
    train(pool, config, 1e-9, second, console, first.with_suffix(".pt"), device)
    again = load_file(second)
    assert all(np.array_equal(again[name], value) for name, value in stored.items())
    torch.save({"presence.old_name": torch.zeros(3), **deaf}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="old_name"):
        train(pool, config, 1e-9, second, console, tmp_path / "other.pt", device)


def test_a_part_counts_by_its_relative_size() -> None:
    pool = _pool(0, 0)
    second = int(pool.begins[len(pool.sent) // 2])
    batch = pool.take([0, second], [200, 200], np.zeros(len(pool.sent), dtype=np.int64))
    cost = torch.where(batch.part == 0, 1.0, 5.0).requires_grad_()
    relative_size(cost, batch).backward()
    assert cost.grad is not None
    weights = cost.grad[batch.scored]
    assert float(weights[0] / weights[-1]) > 3
    assert (cost.grad[~batch.scored] == 0).all()


@pytest.mark.parametrize("upright", [False, True])
def test_mirrored_clouds_keep_their_distances_and_scenes_their_vertical(upright: bool) -> None:
    codes = _codes()
    coords = morton.decode(codes).astype(np.int64)
    for seed in range(6):
        turned = mirrored_cloud(codes, upright, np.random.default_rng(seed))
        assert len(turned) == len(codes) and (np.diff(turned.astype(np.int64)) > 0).all()
        found = morton.decode(turned).astype(np.int64)
        extents = np.ptp(found, axis=0)
        assert sorted(extents) == sorted(np.ptp(coords, axis=0))
        if upright:
            assert np.array_equal(np.sort(found[:, 2]), np.sort(coords[:, 2]))
