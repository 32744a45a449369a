"""The ablation in the reduced codec: its arms do what they claim, and its results add up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pccodec.errors import InputError
from pccodec.model import store
from pccodec.model.config import ModelConfig
from pccodec.studies.codec import __main__ as command
from pccodec.studies.codec.arms import MECHANICS, SEPARATE, Arm, TaskConfig, arm_names, make_arm
from pccodec.studies.codec.blocks import NodeCache
from pccodec.studies.codec.evaluation import Evaluator, Point
from pccodec.studies.codec.network import Training
from pccodec.studies.codec.plot import plot
from pccodec.studies.codec.results import BASELINE, Results, Run
from pccodec.training.shapes import BlockCache
from pccodec.voxels import morton
from pccodec.voxels.octree import unpack

TINY = TaskConfig(
    model=ModelConfig(
        channels={3: 4, 2: 0, 1: 0},
        blocks={3: 1, 2: 0, 1: 0},
        ranks={3: 3, 2: 0, 1: 0},
        analysis_channels=4,
        analysis_blocks=1,
    ),
    steps=2,
    nodes=100,
    summed_cost=2.0,
)


def _sphere(radius: int, offset: int) -> np.ndarray:
    """Codes of the voxels near a sphere."""
    distance = np.sqrt(((np.indices((2 * radius + 3,) * 3) - radius - 1) ** 2).sum(axis=0))
    return np.sort(morton.encode(np.argwhere(np.abs(distance - radius) < 0.7) + offset))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> BlockCache:
    folder = tmp_path_factory.mktemp("blocks")
    spheres = [_sphere(radius, 8 + radius % 5) for radius in (14, 17, 21, 23)]
    np.save(folder / "offsets.npy", np.cumsum([0, *map(len, spheres)]))
    np.save(folder / "blocks.npy", np.concatenate(spheres).astype(np.uint32))
    return BlockCache(folder)


@pytest.fixture(scope="module")
def cache(blocks: BlockCache, tmp_path_factory: pytest.TempPathFactory) -> NodeCache:
    return NodeCache.build(blocks, range(3), tmp_path_factory.mktemp("nodes") / "train.npz", None)


@pytest.fixture(scope="module")
def evaluator(blocks: BlockCache, cache: NodeCache, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    file = tmp_path_factory.mktemp("nodes") / "held_out.npz"
    held_out = NodeCache.build(blocks, [3], file, store.load().geometry)
    assert held_out.base_bits > 0
    return Evaluator(cache, held_out)


def _arm(name: str) -> Arm:
    return make_arm(name, TINY, "both")


def test_blocks_side_by_side_do_not_touch(cache: NodeCache) -> None:
    joined, alone = cache.take([2, 0]), cache.take([0])
    first = int(joined.bounds[1])
    known = np.append(alone.codes, np.uint64(2**63))
    both = np.append(joined.codes, np.uint64(2**63))
    np.testing.assert_array_equal(both[joined.neighbors[first:]], known[alone.neighbors])
    assert not np.isin(joined.neighbors[:first], np.arange(first, len(joined))).any()
    np.testing.assert_array_equal(joined.occupancy[first:], alone.occupancy)
    assert joined.shape.max() == 1.0 and joined.shape.min() == 0.0
    # Descriptors and child bits tell of the same children: cell 8o…8o+7 of stride 2 lies in child o.
    np.testing.assert_array_equal(joined.shape.reshape(-1, 8, 8).any(axis=2), unpack(joined.occupancy))


@pytest.mark.parametrize(("name", "moves"), [("plain", True), ("masked", False)])
def test_only_the_masked_optimizer_leaves_masked_ranks_alone(
    name: str, moves: bool, cache: NodeCache
) -> None:
    training = Training(replace(TINY, steps=100), _arm(name), cache, seed=0)
    weight = training.codec.analysis.latent.weight
    watched = 0
    while watched < 5:
        moments = training.optimizer.state.get(weight, {}).get("exp_avg", torch.zeros(3, 4)).clone()
        before = weight.detach().clone()
        (active,) = training.step()
        # A step without any rank has no gradient there at all, and a first one no momentum.
        if 0 < active < 3 and training.done > 10:
            watched += 1
            assert torch.equal(weight[:active], before[:active]) is False
            assert torch.equal(weight[active:], before[active:]) is not moves
            assert (
                torch.equal(training.optimizer.state[weight]["exp_avg"][active:], moments[active:])
                is not moves
            )


@pytest.mark.parametrize(
    ("name", "of_distortion", "of_rate"),
    [("plain", False, False), ("rescaled", True, True), ("distortion_only", True, False)],
)
def test_rescaling_divides_the_gradients_that_it_should(
    name: str, of_distortion: bool, of_rate: bool, cache: NodeCache
) -> None:
    codec = Training(TINY, _arm(name), cache, seed=0).codec
    nodes = cache.take([0])
    context = codec.context(nodes).detach()

    def gradients(rescale: bool) -> list[torch.Tensor]:
        codec.mask.rescale = rescale
        found = []
        for part in (0, 1):
            y_hat = codec.latent(nodes, context).detach().requires_grad_()
            codec.outcome(nodes, context, y_hat, 2)[part].backward()
            assert y_hat.grad is not None
            found.append(y_hat.grad)
        return found

    usual, measured = gradients(False), gradients(_arm(name).rescale)
    # Prefixes 0…3 are equally likely: ranks are active with 3/4, 2/4 and 1/4.
    factor = 1.0 / torch.tensor([0.75, 0.5, 0.25])
    for before, after, rescaled in zip(usual, measured, (of_distortion, of_rate), strict=True):
        assert bool(before[:, :2].abs().sum(0).gt(0).all()) and bool((before[:, 2] == 0).all())
        torch.testing.assert_close(after, before * factor if rescaled else before)


def test_arms_train_the_prefixes_that_they_claim(cache: NodeCache) -> None:
    longer = replace(TINY, steps=20)

    def prefixes(name: str) -> list[list[int]]:
        training = Training(longer, make_arm(name, longer, "both"), cache, seed=1)
        return [training.step() for _ in range(training.steps)]

    for m in range(4):
        assert prefixes(f"{SEPARATE}_{m}") == [[m]] * 20
    assert prefixes("matryoshka") == [[0, 1, 2, 3]] * 10
    assert _arm("matryoshka_longer").steps(TINY) == _arm("plain").steps(TINY) == TINY.steps
    assert _arm("longer").steps(TINY) == 4 * TINY.steps
    uniform, geometric = (np.ravel(prefixes(name)) for name in ("plain", "geometric"))
    assert set(uniform) == {0, 1, 2, 3} and geometric.mean() < uniform.mean()
    weights = _arm("geometric").distribution
    assert weights == pytest.approx((1 / 4, 3 / 7, 3 / 14, 3 / 28))


def test_arms_start_alike_and_differ_in_their_steps(cache: NodeCache) -> None:
    states = {}
    for name in MECHANICS:
        training = Training(replace(TINY, steps=12), _arm(name), cache, seed=3)
        states[name] = [training.codec.analysis.latent.weight.detach().clone()]
        training.run()
        states[name].append(training.codec.analysis.latent.weight.detach())
    for name in MECHANICS[1:]:
        assert torch.equal(states[name][0], states[BASELINE][0])
        assert not torch.equal(states[name][1], states[BASELINE][1])


def test_true_children_have_no_error(evaluator: Evaluator) -> None:
    certain = np.where(unpack(evaluator.nodes.occupancy), 9.0, -9.0).astype(np.float32)
    assert evaluator.d1_psnr(certain) == math.inf
    assert evaluator.d1_psnr(-certain) < evaluator.d1_psnr(certain * 0) < math.inf


def test_a_study_runs_all_arms_and_does_not_repeat_them(
    cache: NodeCache, evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = arm_names(TINY.ranks)
    file = tmp_path / "results.json"
    results = Results(file, TINY, 1.0, "command")
    with pytest.raises(InputError, match="run plain first"):
        command.study(results, ["geometric"], 1, cache, evaluator)
    command.study(results, names, 1, cache, evaluator)
    assert [run.arm.name for run in results.runs] == names
    stored = json.loads(file.read_text())
    assert {row["arm"]: [point["ranks"] for point in row["points"]] for row in stored["runs"]} == {
        **{name: [0, 1, 2, 3] for name in names},
        **{f"{SEPARATE}_{m}": [m] for m in range(4)},
    }
    assert all(
        point["bits"] >= 0 and point["child_bits"] > 0 for row in stored["runs"] for point in row["points"]
    )
    plot(results, tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000

    again = Results(file, TINY, 1.0, "command")
    assert again.runs == results.runs
    monkeypatch.setattr(command, "Training", None)
    command.study(again, names, 1, cache, evaluator)
    command.study(again, names, 2, cache, evaluator, in_time=lambda: False)
    assert again.runs == results.runs
    with pytest.raises(InputError, match="another configuration"):
        Results(file, replace(TINY, rate=0.5), 1.0, "command")
    file.write_text("[]")
    with pytest.raises(InputError, match="no results of this study"):
        Results(file, TINY, 1.0, "command")


def _run(name: str, seed: int, bits: float, shift: float = 0.0) -> Run:
    """A made-up run: each rank takes ``bits`` and gives 1 dB."""
    arm = _arm(name)
    points = [Point(m, bits * m, 0.0, 4.0 - m, 60.0 + m + shift) for m in arm.prefixes]
    return Run(arm, seed, 1, 1.0, points)


def test_costs_are_those_of_the_curves(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", TINY, 1.0, "command")
    results.runs = [_run("plain", seed, 1.0 + 0.1 * seed) for seed in (-1, 0, 1)]
    results.runs += [_run("both", seed, 0.5) for seed in (0, 1)]
    results.runs += [_run("rescaled", 0, 2.0), _run("masked", 0, 3.0)]
    results.runs += [_run(f"{SEPARATE}_{m}", 0, 0.5) for m in range(3)]
    assert results.best_mechanics() == "both"
    assert SEPARATE not in results.families() and "against_separate" not in results.summary()
    results.runs.append(_run(f"{SEPARATE}_3", 0, 0.5))
    summary = results.summary()
    plain = summary["against_plain"]["plain"]["bd_rate_d1"]
    assert plain["mean"] == pytest.approx(0.0, abs=0.3) and plain["sd"] > 1
    assert plain["values"][0] < 0 < plain["values"][2]
    for name, sign in (("both", -1), ("rescaled", 1), ("masked", 1)):
        for quality in ("bd_rate_d1", "bd_rate_child_bits"):
            assert sign * summary["against_plain"][name][quality]["mean"] > 5
    assert summary["against_separate"]["both"]["bd_rate_d1"] == {"mean": 0.0, "sd": 0.0, "values": [0.0, 0.0]}
    assert summary["against_separate"]["plain"]["bd_rate_d1"]["mean"] > 10
    assert summary["highest_d1"]["both"] == {"mean": 63.0, "sd": 0.0, "values": [63.0, 63.0]}
    assert summary["prefixes"]["plain"][2] == {
        "ranks": 2,
        "bits": pytest.approx(2.0),
        "estimated_bits": 0.0,
        "child_bits": 2.0,
        "d1_psnr": 62.0,
    }
    # Mean over prefixes 0…3 of 4 - m bits left and 0.15 a bit of ranks.
    assert summary["loss"]["both"]["mean"] == pytest.approx(2.5 + 0.15 * 0.75, abs=1e-3)


def test_unknown_arms_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--data", "x", "--cache", str(tmp_path), "--json", str(tmp_path / "r.json"), "--arms", "magic"]
    assert command.main(told) == InputError.exit_code
    assert "no arm magic" in capsys.readouterr().err
