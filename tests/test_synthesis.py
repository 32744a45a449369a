"""The integer synthesis transform against a 64-bit reference and against its float twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pccodec.errors import ModelError
from pccodec.model import stream
from pccodec.model.config import LATENT_LEVELS, LIMIT, ModelConfig
from pccodec.model.draft import DraftNetwork
from pccodec.model.synthesis import LevelNetwork, SynthesisNetwork, conditions
from pccodec.sparse import integer
from pccodec.sparse import neighbors as maps
from pccodec.training.autoencoder import Autoencoder
from pccodec.training.stream_twin import LevelInput
from pccodec.voxels import morton, octree
from pccodec.voxels.octree import Octree

CONFIG = ModelConfig(
    channels={3: 8, 2: 6, 1: 5},
    blocks={3: 2, 2: 1, 1: 1},
    ranks={3: 3, 2: 2, 1: 1},
    draft_blocks=2,
    draft_inner=3,
    analysis_channels=8,
    analysis_blocks=1,
)
_FRACTION = 24
"""The reference counts in 2**-_FRACTION of an activation step."""


def sphere(bits: int = 6) -> tuple[Octree, list[np.ndarray]]:
    """Octree and neighbour maps, by level, of a rough sphere."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(1 << bits)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.linalg.norm(grid - (1 << bits) / 2, axis=1) + rng.normal(0, 0.3, len(grid))
    tree = Octree.build(np.sort(morton.encode(grid[np.abs(distance - 0.3 * (1 << bits)) < 0.6])), bits)
    found = [maps.root_map()]
    for level in range(bits - 1, 0, -1):
        found.insert(0, maps.child_map(found[0], tree.occupancy[level]))
    return tree, [np.empty((0, 27), dtype=np.int32), *found]


TREE, MAPS = sphere()


def random_model(seed: int) -> Autoencoder:
    """A twin whose residuals, biases and activation steps are not those it starts with."""
    torch.manual_seed(seed)
    model = Autoencoder(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25 * torch.randn_like(parameter))
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith(".bits"):
            value.fill_(int(torch.randint(1, 7, ())))
    model.load_state_dict(state)
    return model.eval()


def level_tensors(level: int, seed: int, extreme: bool) -> dict[str, np.ndarray]:
    """Tensors of a level network with random weights, or all at their bounds."""
    rng = np.random.default_rng(seed)
    tensors = MadeUpTensors(rng, extreme)
    c, k = CONFIG.channels[level], CONFIG.ranks[level]
    for name, inputs, outputs in (
        ("occupancy", 27, c),
        ("latent", k, c),
        ("hidden", c, 2 * c),
        ("logits", 2 * c, 8),
        *((f"descend.{o}", c, CONFIG.channels.get(level - 1, 0)) for o in range(8 if level > 1 else 0)),
        *(
            (f"{block}.{conv}", 27 * c, c)
            for block in ("context", *(f"mix.{i}" for i in range(CONFIG.blocks[level])))
            for conv in ("first", "second")
        ),
    ):
        tensors.add(name, inputs, outputs)
    tensors.add("conditions", stream.CONDITIONS, c, bias=False)
    tensors.add("sent", k, c, bias=False)
    for name in ("leave", "context.enter", *(f"mix.{i}.enter" for i in range(CONFIG.blocks[level]))):
        tensors.found[f"{name}.bits"] = np.array(rng.integers(0, 9), dtype=np.int8)
    return {f"synthesis.{level}.{name}": value for name, value in tensors.found.items()}


def draft_tensors(seed: int, extreme: bool) -> dict[str, np.ndarray]:
    """Tensors of a draft network with random weights, or all at their bounds."""
    rng = np.random.default_rng(seed)
    tensors = MadeUpTensors(rng, extreme)
    c, inner = CONFIG.channels[1], CONFIG.draft_inner
    messages = [f"messages.{i}" for i in range(CONFIG.draft_blocks)]
    for name, inputs, outputs in (
        ("occupancy", 27, c),
        ("hidden", c, 2 * c),
        ("logits", 2 * c, 8),
        *((f"descend.{o}", CONFIG.channels[2], c) for o in range(8)),
        *((f"{message}.first", c, inner) for message in messages),
        *((f"{message}.second", 27 * inner, c) for message in messages),
    ):
        tensors.add(name, inputs, outputs)
    tensors.add("conditions", stream.CONDITIONS, c, bias=False)
    for name in ("leave", *(f"{message}.enter" for message in messages)):
        tensors.found[f"{name}.bits"] = np.array(rng.integers(0, 9), dtype=np.int8)
    return {f"synthesis.draft.{name}": value for name, value in tensors.found.items()}


class MadeUpTensors:
    """Collects made-up tensors."""

    def __init__(self, rng: np.random.Generator, extreme: bool) -> None:
        self.rng, self.extreme = rng, extreme
        self.found: dict[str, np.ndarray] = {}

    def add(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        """One layer; extreme ones have one sign in each column."""
        weight = self.rng.integers(-127, 128, (inputs, outputs))
        if self.extreme:
            weight = np.where(self.rng.random(outputs) < 0.7, 127, -127) * np.ones((inputs, 1), dtype=int)
        self.found[f"{name}.weight"] = weight.astype(np.int8)
        self.found[f"{name}.shift"] = self.rng.integers(4, 7, outputs).astype(np.int8)
        if bias:
            self.found[f"{name}.bias"] = self.rng.integers(-(2**10), 2**10, outputs).astype(np.int32)


class Reference:
    """A network in plain 64-bit integers, node by node in one product."""

    def __init__(self, tensors: dict[str, np.ndarray], network: int | str) -> None:
        self.tensors = {name.removeprefix(f"synthesis.{network}."): value for name, value in tensors.items()}

    def sum(self, names: list[str], inputs: list[np.ndarray]) -> np.ndarray:
        total: np.ndarray | int = 0
        for name, values in zip(names, inputs, strict=True):
            fine = self.tensors[name + ".weight"].astype(np.int64) << (
                _FRACTION - self.tensors[name + ".shift"].astype(np.int64)
            )
            total = total + values.astype(np.int64) @ fine
        return total + (self.tensors[names[0] + ".bias"].astype(np.int64) << (_FRACTION - integer.BIAS_BITS))

    def to_stream(self, total: np.ndarray) -> np.ndarray:
        fraction = _FRACTION - 4
        return ((total + (1 << (fraction - 1))) >> fraction).clip(-32767, 32767)

    def activated(self, total: np.ndarray) -> np.ndarray:
        return ((total + (1 << (_FRACTION - 1))) >> _FRACTION).clip(0, 127)

    def left(self, stream: np.ndarray, name: str) -> np.ndarray:
        shift = 8 - int(self.tensors[name + ".bits"])
        return ((stream + ((1 << shift) >> 1)) >> shift).clip(0, 127)

    def around(self, rows: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        padded = np.vstack([rows, np.zeros((1, rows.shape[1]), dtype=np.int64)])
        return padded[neighbors].reshape(len(rows), -1)

    def add(self, stream: np.ndarray, names: list[str], inputs: list[np.ndarray]) -> np.ndarray:
        return (stream + self.to_stream(self.sum(names, inputs))).clip(-32767, 32767)

    def residual(self, stream: np.ndarray, neighbors: np.ndarray, name: str) -> np.ndarray:
        entered = self.around(self.left(stream, name + ".enter"), neighbors)
        inner = self.activated(self.sum([name + ".first"], [entered]))
        return self.add(stream, [name + ".second"], [self.around(inner, neighbors)])

    def message(self, stream: np.ndarray, neighbors: np.ndarray, name: str) -> np.ndarray:
        inner = self.activated(self.sum([name + ".first"], [self.left(stream, name + ".enter")]))
        return self.add(stream, [name + ".second"], [self.around(inner, neighbors)])

    def enter(self, neighbors: np.ndarray, given: np.ndarray, inherited: np.ndarray) -> np.ndarray:
        count = len(neighbors)
        return self.add(
            inherited, ["occupancy", "conditions"], [neighbors < count, given[None].repeat(count, 0)]
        )

    def predict(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = self.left(stream, "leave")
        wide = self.activated(self.sum(["hidden"], [features]))
        logits = (self.sum(["logits"], [wide]) + (1 << (_FRACTION - 1))) >> _FRACTION
        return logits.clip(-2047, 2047), features

    def run(
        self,
        neighbors: np.ndarray,
        given: np.ndarray,
        inherited: np.ndarray,
        symbols: np.ndarray,
        active: np.ndarray,
        blocks: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        stream = self.residual(self.enter(neighbors, given, inherited), neighbors, "context")
        sent = np.arange(symbols.shape[1]) < active[:, None]
        stream = self.add(stream, ["latent", "sent"], [symbols * sent, sent])
        for block in range(blocks):
            stream = self.residual(stream, neighbors, f"mix.{block}")
        return self.predict(stream)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("level", LATENT_LEVELS)
def test_equals_a_64_bit_reference(level: int, extreme: bool) -> None:
    rng = np.random.default_rng(level)
    neighbors, channels, ranks = MAPS[level], CONFIG.channels[level], CONFIG.ranks[level]
    count = len(neighbors)
    tensors = level_tensors(level, 10 * level, extreme)
    network, reference = LevelNetwork(tensors, level, CONFIG), Reference(tensors, level)
    given = np.array([127, -127, 5, 16])
    inherited = rng.integers(-32767, 32768, (count, channels)).astype(np.int16)
    symbols = rng.choice([-LIMIT, 0, LIMIT], (count, ranks)).astype(np.int8)
    active = rng.integers(0, ranks + 1, count)
    context = network.embed(neighbors, given, inherited)
    logits, features = network.predict(context, neighbors, symbols, active)
    expected = reference.run(neighbors, given, inherited, symbols, active, CONFIG.blocks[level])
    np.testing.assert_array_equal(logits, expected[0])
    np.testing.assert_array_equal(features, expected[1])
    if level > 1:
        node, octant = octree.children(TREE.occupancy[level - 1])
        found = network.inherit(features, node, octant)
        for o in range(8):
            mine = reference.to_stream(reference.sum([f"descend.{o}"], [features[node[octant == o]]]))
            np.testing.assert_array_equal(found[octant == o], mine)


@pytest.mark.parametrize("extreme", [False, True])
def test_the_draft_network_equals_a_64_bit_reference(extreme: bool) -> None:
    rng = np.random.default_rng(1)
    tensors = draft_tensors(7, extreme)
    network, reference = DraftNetwork(tensors, CONFIG), Reference(tensors, "draft")
    features = rng.integers(0, 128, (len(TREE.codes[2]), CONFIG.channels[2])).astype(np.uint8)
    node, octant = octree.children(TREE.occupancy[1])
    inherited = network.inherit(features, node, octant)
    for o in range(8):
        mine = reference.to_stream(reference.sum([f"descend.{o}"], [features[node[octant == o]]]))
        np.testing.assert_array_equal(inherited[octant == o], mine)
    given = np.array([127, -127, 5, 16])
    stream = reference.enter(MAPS[1], given, inherited)
    for block in range(CONFIG.draft_blocks):
        stream = reference.message(stream, MAPS[1], f"messages.{block}")
    np.testing.assert_array_equal(network.predict(MAPS[1], given, inherited), reference.predict(stream)[0])


def test_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    network = LevelNetwork(level_tensors(3, 1, extreme=False), 3, CONFIG)
    neighbors = MAPS[3]

    def context() -> np.ndarray:
        return network.embed(neighbors, np.zeros(4, dtype=np.int64), None)

    whole = context()
    monkeypatch.setattr(integer, "BLOCK", 7)
    monkeypatch.setattr(integer, "BLOCK_VALUES", 40)
    np.testing.assert_array_equal(context(), whole)


def test_the_twin_in_fp32_equals_the_integer_network() -> None:
    model = random_model(3)
    network = SynthesisNetwork(model.tensors(), CONFIG)
    rng = np.random.default_rng(0)
    counts = {level: len(codes) for level, codes in enumerate(TREE.codes)}
    passed: torch.Tensor | None = None
    inherited: np.ndarray | None = None
    for level in LATENT_LEVELS:
        twin, own = model.synthesis(level), network.level(level)
        neighbors, count, ranks = MAPS[level], len(MAPS[level]), CONFIG.ranks[level]
        given = conditions(counts, level, exact=level != 2)
        told = torch.from_numpy(given.astype(np.float32)).expand(count, -1)
        symbols = rng.integers(-2, 3, (count, ranks)).astype(np.int8)
        active = ranks - 1 if ranks > 1 else ranks
        with torch.no_grad():
            context = twin.embed(LevelInput(torch.from_numpy(neighbors), told, passed), torch.float32)
            y_hat = torch.from_numpy(symbols).float()
            logits, features = twin(context, torch.from_numpy(neighbors), y_hat, active, torch.float32)
        exact = own.embed(neighbors, given, inherited)
        np.testing.assert_array_equal((context * 2**stream.STREAM_BITS).numpy(), exact)
        found, left = own.predict(exact, neighbors, symbols, np.full(count, active))
        np.testing.assert_array_equal((logits * 128).numpy(), found)
        if level > 1:
            node, octant = octree.children(TREE.occupancy[level - 1])
            with torch.no_grad():
                passed = twin.inherit(features, torch.from_numpy(node), torch.from_numpy(octant))
            inherited = own.inherit(left, node, octant)
            np.testing.assert_array_equal((passed * 2**stream.STREAM_BITS).numpy(), inherited)


def test_the_draft_twin_in_fp32_equals_the_integer_network() -> None:
    model = random_model(4)
    own, twin = SynthesisNetwork(model.tensors(), CONFIG).draft, model.draft
    counts = {level: len(codes) for level, codes in enumerate(TREE.codes)}
    given = conditions(counts, 1, exact=False)
    features = np.random.default_rng(2).integers(0, 128, (len(TREE.codes[2]), CONFIG.channels[2]))
    node, octant = octree.children(TREE.occupancy[1])
    unit = model.synthesis(2).leave.unit
    with torch.no_grad():
        passed = twin.inherit(
            torch.from_numpy(features).float() / unit, torch.from_numpy(node), torch.from_numpy(octant)
        )
        told = torch.from_numpy(given.astype(np.float32)).expand(len(node), -1)
        logits = twin(LevelInput(torch.from_numpy(MAPS[1]), told, passed), torch.float32)
    inherited = own.inherit(features.astype(np.uint8), node, octant)
    np.testing.assert_array_equal((passed * 2**stream.STREAM_BITS).numpy(), inherited)
    np.testing.assert_array_equal((logits * 128).numpy(), own.predict(MAPS[1], given, inherited))


def test_masked_ranks_do_not_count() -> None:
    network = LevelNetwork(level_tensors(3, 5, extreme=False), 3, CONFIG)
    neighbors, count = MAPS[3], len(MAPS[3])
    context = network.embed(neighbors, np.zeros(4, dtype=np.int64), None)
    symbols = np.random.default_rng(0).integers(-3, 4, (count, 3)).astype(np.int8)
    one = network.predict(context, neighbors, symbols, np.ones(count, dtype=np.int64))
    alone = network.predict(context, neighbors, symbols[:, :1], np.ones(count, dtype=np.int64))
    np.testing.assert_array_equal(one[0], alone[0])
    none = network.predict(context, neighbors, symbols, np.zeros(count, dtype=np.int64))
    assert (none[0] != one[0]).any()


def test_conditions_are_exact_logarithms() -> None:
    assert conditions({0: 1600, 1: 400, 2: 100, 3: 25}, 1, exact=True).tolist() == [0, 0, 0, 0]
    assert conditions({1: 8, 2: 1}, 2, exact=False).tolist() == [0, 16, 0, 16]
    assert conditions({0: 5, 1: 5}, 1, exact=True).tolist() == [0, -32, 0, 0]
    below, at = {0: 2**61 - 1, 1: 2**58}, {0: 2**61, 1: 2**58}
    assert conditions(below, 1, exact=True)[1] == 15 and conditions(at, 1, exact=True)[1] == 16


def test_refuses_weights_whose_sums_could_be_inexact() -> None:
    tensors = level_tensors(3, 1, extreme=False)
    tensors["synthesis.3.context.first.shift"] = np.full(8, 12, dtype=np.int8)
    tensors["synthesis.3.context.first.weight"] = np.full((216, 8), 127, dtype=np.int8)
    tensors["synthesis.3.context.first.bias"] = np.full(8, 2**30, dtype=np.int32)
    with pytest.raises(ModelError, match=r"context\.first"):
        LevelNetwork(tensors, 3, CONFIG)
    del tensors["synthesis.3.hidden.bias"]
    with pytest.raises(ModelError):
        LevelNetwork(tensors, 3, CONFIG)
