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
from pccodec.model.occupancy import LOGIT_MAX, LOGIT_UNIT, OccupancyNetwork
from pccodec.model.rank_inputs import RANKS_MAX, NodeRanks
from pccodec.sparse import neighbors as maps
from pccodec.training import scans
from pccodec.training.geometry import (
    GeometryTraining,
    batches,
    bit_cost,
    draw_ranks,
    inputs,
    join,
    relative_size,
    train,
)
from pccodec.training.geometry_twin import GeometryTwin, NetworkSize
from pccodec.training.levels import Level, cut, levels_of, octree_of
from pccodec.voxels import morton, octree

SMALL = NetworkSize(near=8, wide=8, hidden=16, mixed=8)


def _cloud(seed: int = 0, ranks: int = 0) -> list[Level]:
    """Levels of a noisy sphere, those of nodes at strides 8, 4 and 2 with as many random ranks."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(20_000, 3))
    points = 30 + 25 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    cloud = octree_of(np.unique(morton.encode(points.astype(np.int64))))
    symbols = {
        level: rng.integers(-8, 9, (len(cloud.codes[level]), ranks)).astype(np.int8)
        for level in (3, 2, 1)
        if ranks
    }
    return levels_of(cloud, symbols)


def test_levels_lead_from_the_root_to_the_cloud() -> None:
    levels = _cloud()
    assert len(levels[-1].codes) == 1
    for above, level in zip(levels[1:], levels, strict=False):
        np.testing.assert_array_equal(octree.expand(above.codes, above.occupancy), level.codes)
        assert level.neighbors.shape == (len(level.codes), maps.KERNEL)


def test_a_part_of_a_level_keeps_its_nodes_and_their_neighbours() -> None:
    level = _cloud(ranks=2)[0]
    part, inside = cut(level, 100, 400)
    np.testing.assert_array_equal(part.codes[inside], level.codes[100:400])
    np.testing.assert_array_equal(part.occupancy[inside], level.occupancy[100:400])
    assert part.ranks is not None and level.ranks is not None
    np.testing.assert_array_equal(part.ranks[inside], level.ranks[100:400])
    known = np.append(part.codes, np.uint64(2**63))
    every = np.append(level.codes, np.uint64(2**63))
    np.testing.assert_array_equal(known[part.neighbors[inside]], every[level.neighbors[100:400]])


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
    config = GeometryTraining(size=SMALL, nodes_per_step=700, nodes_per_part=300)
    batch = next(batches([_cloud(0), _cloud(1)], config, np.random.default_rng(0)))
    count = len(batch.bits)
    assert int(batch.scored.sum()) == 700
    assert int(batch.part.max()) >= 2
    assert batch.neighbors.shape == (count, 27) and int(batch.neighbors.max()) == count
    # No node's neighbours lie in another part.
    part = torch.cat([batch.part, torch.tensor([-1])])[batch.neighbors.long()]
    assert ((part == batch.part[:, None]) | (part == -1)).all()


def _integer_logits(network: OccupancyNetwork, level: Level, statistics: np.ndarray) -> np.ndarray:
    """Logits (n, 8), in integers, of a level coded with its true bits."""
    second = second_group(level.codes)
    order = np.argsort(second, kind="stable")
    place = np.append(np.argsort(order), len(order))
    ranks = None if level.ranks is None else NodeRanks(level.level + 1, level.ranks[order])
    state = network.begin(place[level.neighbors[order]], statistics, int((~second).sum()), ranks)
    out = np.empty((len(order), 8))
    for octant in range(8):
        for group in state.groups:
            for nodes, part in state.logits():
                out[order[nodes], octant] = part
            state.observe(level.occupancy[order[group]] >> octant & 1)
    return out


@pytest.mark.parametrize("sent", [0, 2, RANKS_MAX])
def test_the_integer_network_does_what_its_twin_does(sent: int) -> None:
    torch.manual_seed(0)
    twin = GeometryTwin(SMALL)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.startswith(("same", "ranks")) or name.endswith("bias"):
                parameter.normal_(std=0.2)
    level = _cloud(ranks=sent)[1]
    context = LevelContext(level.neighbors, level.level, level.counts, level.codes)
    batch = join([(level, np.ones(len(level.codes), dtype=bool))], [context.statistics])
    with torch.no_grad():
        exact = twin(*inputs(batch), dtype=torch.float32)
        rough = twin(*inputs(batch))
    got = _integer_logits(OccupancyNetwork.from_tensors(twin.tensors()), level, context.statistics)
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
    levels = [*_cloud(ranks=3)[:4], *_cloud()[:2]]
    parts = [(level, np.ones(len(level.codes), dtype=bool)) for level in levels]
    statistics = [np.full(14, 20)] * len(parts)
    with torch.no_grad():
        joint = twin(*inputs(join(parts, statistics)), dtype=torch.float32)
        single = [twin(*inputs(join([part], statistics[:1])), dtype=torch.float32) for part in parts]
    torch.testing.assert_close(joint, torch.cat(single), rtol=0, atol=0)


def test_parts_draw_every_number_of_ranks_and_often_none() -> None:
    level = _cloud(ranks=3)[1]
    rng = np.random.default_rng(0)
    drawn = [draw_ranks(level, 0.5, rng).ranks for _ in range(600)]
    sent = np.array([0 if ranks is None else ranks.shape[1] for ranks in drawn])
    assert 250 < (sent == 0).sum() < 350
    assert all(70 < (sent == k).sum() < 130 for k in (1, 2, 3))
    assert level.ranks is not None
    for ranks in drawn:
        if ranks is not None:
            np.testing.assert_array_equal(ranks, level.ranks[:, : ranks.shape[1]])
    assert draw_ranks(_cloud()[1], 0.0, rng).ranks is None


def test_training_stores_a_network_that_hears_ranks_and_can_go_on(tmp_path: Path) -> None:
    # All parts are of G_0 and have ranks: a single step teaches something.
    config = GeometryTraining(
        size=SMALL, nodes_per_step=500, nodes_per_part=300, without_ranks=0.0, level_shares=(1, 0, 0, 0)
    )
    clouds, console = [_cloud(ranks=2)], Console(file=io.StringIO())
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    deaf = {k: v for k, v in GeometryTwin(SMALL).state_dict().items() if not k.startswith("ranks")}
    torch.save(deaf, tmp_path / "deaf.pt")
    twin = train(clouds, config, 0.005, first, console, tmp_path / "deaf.pt")
    heard = (twin.ranks_bias != 0).any(dim=2)
    assert heard[2, :2].any() and not heard[2, 2:].any() and not heard[:2].any()
    stored = load_file(first)
    assert OccupancyNetwork.from_tensors(stored).ranks.keys() == {3, 2, 1}
    train(clouds, config, 1e-9, second, console, first.with_suffix(".pt"))
    again = load_file(second)
    assert all(np.array_equal(again[name], value) for name, value in stored.items())
    torch.save({"presence.old_name": torch.zeros(3), **deaf}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="old_name"):
        train(clouds, config, 1e-9, second, console, tmp_path / "other.pt")


def test_a_part_counts_by_its_relative_size() -> None:
    level = _cloud()[0]
    parts = [cut(level, 0, 200), cut(level, 300, 500)]
    statistics = [np.zeros(14)] * 2
    batch = join(parts, statistics)
    cost = torch.where(batch.part == 0, 1.0, 5.0).requires_grad_()
    relative_size(cost, batch).backward()
    assert cost.grad is not None
    weights = cost.grad[batch.scored]
    assert float(weights[0] / weights[-1]) > 3
    assert (cost.grad[~batch.scored] == 0).all()
