"""Training on a made-up mesh: data, objective, checkpoints, and a release that encodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pccodec import codec
from pccodec.cli.train import train_command
from pccodec.errors import InputError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.training import nodes
from pccodec.training.batches import make_batch, mirrored
from pccodec.training.block_pool import BlockPool, DeviceBatch
from pccodec.training.config import TrainConfig
from pccodec.training.loop import Trainer, of_ranks
from pccodec.training.objective import LossConfig, run_step, selected_children
from pccodec.training.release import archive, release
from pccodec.training.shapes import BlockCache, ShapeConfig, mesh_files, split_files
from pccodec.training.states import State, StateConfig

TINY = ModelConfig(
    channels={3: 8, 2: 8, 1: 8}, blocks={3: 1, 2: 1, 1: 1}, analysis_channels=8, analysis_blocks=1
)


def _sphere_mesh(file: Path, rings: int = 24) -> None:
    """A sphere of triangles between circles of latitude."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, rings), indexing="ij")
    verts = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    row, column = np.meshgrid(np.arange(rings - 1), np.arange(rings - 1), indexing="ij")
    corner = (row * rings + column).ravel()
    below = np.stack([corner, corner + 1, corner + rings], axis=1)
    above = np.stack([corner + 1, corner + rings + 1, corner + rings], axis=1)
    faces = np.concatenate([below, above]).astype(np.int32)
    np.savez(file, verts=verts.reshape(-1, 3).astype(np.float32), faces=faces)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> BlockCache:
    folder = tmp_path_factory.mktemp("blocks")
    _sphere_mesh(folder / "sphere.npz")
    shapes = ShapeConfig(min_extent=60, max_extent=90, thin_share=0.0, crops_per_pose=2, min_voxels=100)
    return BlockCache.build(mesh_files(folder), folder, 6, seed=0, workers=1, config=shapes)


def test_blocks_are_sorted_voxels_of_their_cube(cache: BlockCache) -> None:
    assert len(cache) >= 4
    for index in range(len(cache)):
        codes = cache[index]
        assert (np.diff(codes.astype(np.int64)) > 0).all()
        assert codes[-1] < 1 << 21


def test_mirrored_blocks_keep_their_voxels(cache: BlockCache) -> None:
    block = cache[0]
    turned = mirrored(block, np.random.default_rng(0))
    assert len(turned) == len(block) and (np.diff(turned.astype(np.int64)) > 0).all()


def test_blocks_of_a_batch_do_not_touch(cache: BlockCache) -> None:
    batch = make_batch([cache[0], cache[1]])
    for level in range(1, 7):
        block = batch.block_of(batch.tree.codes[level], level)
        neighbors = batch.maps[level]
        assert (np.append(block, -1)[neighbors] == np.where(neighbors < len(block), block[:, None], -1)).all()
    assert batch.counts[:, 0].tolist() == [len(cache[0]), len(cache[1])]


def _batch(cache: BlockCache) -> DeviceBatch:
    return DeviceBatch.of(BlockPool(cache, torch.device("cpu")).take([0]))


def test_held_out_meshes_are_not_trained_on() -> None:
    files = [Path(f"{i}.npz") for i in range(100)]
    kept, held_out = split_files(files)
    assert len(held_out) == 4 and not set(kept) & set(held_out) and len(kept) + len(held_out) == 100


def test_states_are_drawn_as_their_prefixes_say() -> None:
    states, ranks = StateConfig(), TINY.ranks
    prefixes = states.prefixes(ranks)
    rng = np.random.default_rng(0)
    drawn = [states.draw(ranks, rng) for _ in range(4000)]
    for level in LATENT_LEVELS:
        assert sum(prefixes[level]) == pytest.approx(1.0)
        seen = np.bincount([state.active[level] for state in drawn], minlength=ranks[level] + 1)
        assert seen / len(drawn) == pytest.approx(np.array(prefixes[level]), abs=0.03)


@pytest.mark.parametrize("finest", [5, 4, 3, 2, 1])
def test_every_state_trains_what_it_uses(cache: BlockCache, finest: int, tmp_path: Path) -> None:
    trainer = Trainer(TrainConfig(TINY), cache, cache, tmp_path)
    active = {level: TINY.ranks[level] if level >= finest else 0 for level in LATENT_LEVELS}
    outcome = run_step(
        trainer.model,
        trainer.rate,
        _batch(cache),
        State(finest, active),
        LossConfig(),
        1.0,
        noisy=False,
        geometry=store.load().geometry,
    )
    outcome.loss.backward()
    assert set(outcome.child_bits) == set(LATENT_LEVELS)
    for level in LATENT_LEVELS:
        makes = trainer.model.analysis(level).latent.weight.grad
        assert (makes is not None and bool(makes.abs().sum() > 0)) == (level >= finest)
    drafts = trainer.model.draft.logits.weight.grad
    assert (drafts is not None and bool(drafts.abs().sum() > 0)) == (finest > 1)


def test_training_resumes_where_it_stopped(cache: BlockCache, tmp_path: Path) -> None:
    config = TrainConfig(TINY, batch_blocks=1)

    def run(trainer: Trainer, steps: range) -> list[float]:
        losses = []
        for step in steps:
            torch.manual_seed(step)
            losses.append(float(trainer.step(np.random.default_rng(step))["loss"]))
        return losses

    whole = Trainer(config, cache, cache, tmp_path / "whole")
    # The learning rate follows the clock: hold it still.
    whole.config = config = TrainConfig(TINY, batch_blocks=1, minutes=1e9)
    expected = run(whole, range(6))
    first = Trainer(config, cache, cache, tmp_path / "parts")
    assert run(first, range(3)) == pytest.approx(expected[:3], rel=1e-3)
    first.save()
    second = Trainer(config, cache, cache, tmp_path / "parts")
    second.restore(tmp_path / "parts" / "checkpoint.pt")
    assert second.steps == 3
    archive(tmp_path / "parts" / "checkpoint.pt", tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 0.7 * (
        tmp_path / "parts" / "checkpoint.pt"
    ).stat().st_size
    third = Trainer(config, cache, cache, tmp_path / "third")
    third.restore(tmp_path / "small.pt")
    assert run(third, range(3, 4)) == pytest.approx(expected[3:4], rel=0.1)
    assert run(second, range(3, 6)) == pytest.approx(expected[3:], rel=1e-3)


def test_ranks_are_trained_without_changing_streams_without_them(cache: BlockCache, tmp_path: Path) -> None:
    config = TrainConfig(TINY, batch_blocks=1, minutes=1e9, warmup_steps=1, float_steps=0)
    first = Trainer(config, cache, cache, tmp_path / "first")
    first.save()
    ranks = Trainer(replace(config, only_ranks=True, seed=2), cache, cache, tmp_path / "ranks")
    ranks.start_from(tmp_path / "first" / "checkpoint.pt")
    before = {name: value.clone() for name, value in ranks.model.state_dict().items()}
    for step in range(4):
        ranks.step(np.random.default_rng(step))
    moved = {name for name, value in ranks.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(of_ranks(name) for name in moved)

    def outcome(trainer: Trainer, finest: int, active: int) -> float:
        state = State(finest, {level: active if level == finest else 0 for level in LATENT_LEVELS})
        with torch.no_grad():
            return float(
                run_step(
                    trainer.model, trainer.rate, _batch(cache), state, trainer.loss, 0.0, False, None
                ).loss
            )

    assert outcome(ranks, 3, 0) == outcome(first, 3, 0)
    assert outcome(ranks, 3, 1) != outcome(first, 3, 1)


def test_the_draft_network_is_trained_alone(cache: BlockCache, tmp_path: Path) -> None:
    config = TrainConfig(TINY, batch_blocks=1, minutes=1e9, warmup_steps=1)
    first = Trainer(config, cache, cache, tmp_path / "first")
    first.save()
    given = torch.load(tmp_path / "first" / "checkpoint.pt", weights_only=True)
    for name in [name for name in given["average"] if name.startswith("draft.")]:
        del given["average"][name]
    torch.save(given, tmp_path / "without.pt")
    drafts = Trainer(replace(config, only=("draft.",), float_steps=2), cache, cache, tmp_path / "drafts")
    drafts.start_from(tmp_path / "without.pt")
    before = {name: value.clone() for name, value in drafts.model.state_dict().items()}
    assert torch.equal(before["draft.hidden.weight"], before["syntheses.1.hidden.weight"])
    assert torch.equal(before["draft.descend.3.weight"], before["syntheses.2.descend.3.weight"])
    for step in range(4):
        drafts.step(np.random.default_rng(step))
    moved = {
        name for name, value in drafts.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.split(".")[0] for name in moved} == {"draft"}
    drafts.save()
    file = tmp_path / "drafted.safetensors"
    other = {name: value for name, value in first.model.tensors().items() if ".draft." not in name}
    release(tmp_path / "drafts" / "checkpoint.pt", other, [], file)
    _, written = store.read_tensors(file)
    assert all((written[name] == value).all() for name, value in other.items())
    new = {name for name in written.keys() - other.keys() if not name.startswith("ranks.")}
    assert new and all(name.startswith("synthesis.draft.") for name in new)


def test_octants_that_are_known_are_kept(cache: BlockCache) -> None:
    batch = _batch(cache)
    true = batch.tree.occupancy[1]
    logits = torch.randn(len(true), 8, generator=torch.Generator().manual_seed(0))
    block = batch.block_of(batch.tree.codes[2], 2)
    for octants in (0, 3, 7):
        found = selected_children(logits, true, octants, block, batch, 1)
        wrong = nodes.unpack(found ^ true)[:, :octants]
        assert wrong.float().mean() < 0.05 if octants else (found != true).any()


def test_weights_of_another_run_are_taken_as_far_as_they_fit(cache: BlockCache, tmp_path: Path) -> None:
    config = TrainConfig(TINY, batch_blocks=1)
    Trainer(config, cache, cache, tmp_path / "first").save()
    larger = replace(TINY, blocks={3: 2, 2: 1, 1: 1}, ranks={3: 2, 2: 1, 1: 1})
    second = Trainer(replace(config, model=larger, seed=5), cache, cache, tmp_path / "second")
    second.start_from(tmp_path / "first" / "checkpoint.pt")
    given = torch.load(tmp_path / "first" / "checkpoint.pt", weights_only=True)["average"]
    own = second.model.state_dict()
    assert torch.equal(own["syntheses.3.latent.weight"], given["syntheses.3.latent.weight"][:, :2])
    assert torch.equal(own["syntheses.1.hidden.weight"], given["syntheses.1.hidden.weight"])
    assert not own["syntheses.3.mix.1.second.weight"].any()
    assert second.steps == 0 and torch.equal(
        second.average["syntheses.1.hidden.bias"], own["syntheses.1.hidden.bias"]
    )


def test_loss_falls_and_the_release_encodes(
    cache: BlockCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(TINY, batch_blocks=1, minutes=1e9, warmup_steps=1)
    trainer = Trainer(config, cache, cache, tmp_path)
    batch, state = _batch(cache), State(3, {3: 0, 2: 0, 1: 0})

    def loss() -> float:
        with torch.no_grad():
            outcome = run_step(trainer.model, trainer.rate, batch, state, LossConfig(), 1.0, False, None)
        return float(outcome.loss)

    before = loss()
    for step in range(50):
        trainer.step(np.random.default_rng(step))
    assert loss() < 0.9 * before
    assert {row["finest"] for row in trainer.validate(1)["validation"]} == set(LATENT_LEVELS)
    trainer.save()
    file = tmp_path / "tiny.safetensors"
    made = release(tmp_path / "checkpoint.pt", store.load().tensors, [cache[0]], file)
    monkeypatch.setenv("PCCODEC_MODELS", str(tmp_path))
    points = np.argwhere(np.indices((20, 20, 20)).sum(axis=0) == 24)
    data = codec.encode(points, model="tiny", ranks=(2, 1, 1))
    assert made in data
    assert (np.unique(codec.decode(data), axis=0) == points).all()


def test_train_command_makes_a_model_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "meshes").mkdir()
    for name in ("a", "b"):
        _sphere_mesh(tmp_path / "meshes" / f"{name}.npz")
    settings = {"model": TINY.to_json(), "minutes": 0.02, "blocks": 6, "batch_blocks": 1}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    arguments = ["--data", "meshes", "--config", "config.json", "--run", "run", "--cache", "blocks"]
    arguments = [str(tmp_path / word) if not word.startswith("--") else word for word in arguments]
    made = CliRunner().invoke(train_command, [*arguments, "-o", str(tmp_path / "mine.safetensors")])
    assert made.exit_code == 0, made.output
    assert store.load(str(tmp_path / "mine.safetensors")).config == TINY
    again = CliRunner().invoke(train_command, arguments)
    assert isinstance(again.exception, InputError) and "--resume" in str(again.exception)
    assert CliRunner().invoke(train_command, [*arguments, "--resume"]).exit_code == 0


def test_bad_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown training options: speed"):
        TrainConfig.from_json({"speed": 3})
    with pytest.raises(InputError, match="cannot read"):
        TrainConfig.load(tmp_path / "missing.json")
    assert TrainConfig.from_json(TrainConfig(TINY).to_json()) == TrainConfig(TINY)
    with pytest.raises(InputError, match="no training meshes"):
        mesh_files(tmp_path)
