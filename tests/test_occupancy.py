"""The integer context network against an independent 64-bit integer reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pccodec.errors import ModelError
from pccodec.model import occupancy
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.probability import LOGIT_MAX
from pccodec.model.rank_inputs import RANKS_MAX, NodeRanks
from pccodec.sparse import integer
from pccodec.sparse import neighbors as maps
from pccodec.voxels import morton
from pccodec.voxels.octree import Octree

SIZES = {"near": 8, "wide": 16, "hidden": 24, "mixed": 12}


def random_tensors(seed: int, largest: int = 127, ranks: bool = False) -> dict[str, np.ndarray]:
    """Tensors of a small network with weights up to ±largest; with ``ranks`` it hears latent ranks."""
    rng = np.random.default_rng(seed)
    near, wide, hidden, mixed = SIZES.values()
    shapes: dict[str, tuple[int, ...]] = {
        "presence": (27, near),
        "statistics": (occupancy.STATISTICS, near),
        "wide": (27 * near, wide),
        "start": (27 * wide, hidden),
        "bits": (7, 27, hidden),
        "same": (8, 27, hidden),
        "message": (8, hidden, 8),
        "own": (8, hidden, mixed),
        "around": (8, 216, mixed),
        "deep": (8, mixed, mixed),
        "logit": (8, mixed, 1),
    }
    if ranks:
        inputs = {"near": (RANKS_MAX, near), "wide": (RANKS_MAX, wide), "sums": (27 * RANKS_MAX, hidden)}
        shapes.update({"ranks." + layer: (3, *shape) for layer, shape in inputs.items()})
    tensors: dict[str, np.ndarray] = {}

    def draw(name: str, shape: tuple[int, ...]) -> None:
        binary = name in ("presence", "bits", "same")
        outputs = shape[:-2] + shape[-1:]
        tensors[f"{name}.weight"] = rng.integers(-largest, largest + 1, shape).astype(np.int8)
        tensors[f"{name}.shift"] = rng.integers(0, 2, outputs).astype(np.int8) + np.int8(0 if binary else 4)
        if not name.startswith(("statistics", "bits", "same", "own", "ranks", "remaining.own")):
            tensors[f"{name}.bias"] = rng.integers(-(2**10), 2**10, outputs).astype(np.int32)

    for name, shape in shapes.items():
        draw(name, shape)
    tensors["hidden.bias"] = rng.integers(-(2**9), 2**9, (8, hidden)).astype(np.int32)
    if ranks:
        constants = rng.integers(-(2**9), 2**9, (3, RANKS_MAX, hidden))
        tensors["ranks.bias"] = constants.astype(np.int32)
    for layer, size, outputs in (
        ("message", hidden, 16),
        ("own", hidden, mixed),
        ("around", 27 * 16, mixed),
        ("deep", mixed, 2 * mixed),
        ("logit", 2 * mixed, 8),
    ):
        draw(f"remaining.{layer}", (8, size, outputs))
    tensors["remaining.hidden.bias"] = rng.integers(-(2**9), 2**9, (8, hidden)).astype(np.int32)
    return {"geometry." + name: value for name, value in tensors.items()}


def sphere(radius: float = 9.5, bits: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbour map, occupancy and codes of the nodes one level above the voxels of a rough sphere."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(1 << bits)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.linalg.norm(grid - (1 << bits) / 2, axis=1) + rng.normal(0, 0.3, len(grid))
    codes = np.sort(morton.encode(grid[np.abs(distance - radius) < 0.8]))
    octree = Octree.build(codes, bits)
    neighbors = maps.root_map()
    for level in range(bits - 1, 0, -1):
        neighbors = maps.child_map(neighbors, octree.occupancy[level])
    return neighbors, octree.occupancy[0], octree.codes[1]


def second_group(count: int) -> np.ndarray:
    """The second group, bool (count,), of an arbitrary division: the network takes any."""
    return np.arange(count) >= count // 3


def reference(
    tensors: dict[str, np.ndarray],
    neighbors: np.ndarray,
    statistics: np.ndarray,
    bits: np.ndarray,
    ranks: NodeRanks | None = None,
) -> np.ndarray:
    """Logits (n, 8, 9) in 64-bit integers with explicit shifts, one dense gather a layer.

    Of each pass that of its bit, then those of all bits from what is known before it.
    """
    t = {name.removeprefix("geometry."): value.astype(np.int64) for name, value in tensors.items()}
    count, fine = len(neighbors), 30

    def total(*terms: tuple[np.ndarray, np.ndarray, np.ndarray], bias: np.ndarray) -> np.ndarray:
        acc = bias << (fine - integer.BIAS_BITS)
        for x, weight, shift in terms:
            acc = acc + ((x @ weight) << (fine - shift))
        return (acc + (1 << (fine - 1))) >> fine

    def act(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 127)

    def around(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((1, x.shape[1]), dtype=np.int64)])[neighbors].reshape(count, -1)

    heard: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {"near": [], "wide": [], "sums": []}
    constant = np.int64(0)
    if ranks is not None:
        index, symbols = (3, 2, 1).index(ranks.level), np.zeros((count, RANKS_MAX), dtype=np.int64)
        symbols[:, : ranks.symbols.shape[1]] = ranks.symbols
        for layer, x in (("near", symbols), ("wide", symbols), ("sums", around(symbols))):
            heard[layer] = [(x, t[f"ranks.{layer}.weight"][index], t[f"ranks.{layer}.shift"][index])]
        constant = t["ranks.bias"][index, ranks.symbols.shape[1] - 1]
    present = (neighbors < count).astype(np.int64)
    described = np.repeat(statistics[None], count, axis=0)
    near = act(
        total(
            (present, t["presence.weight"], t["presence.shift"]),
            (described, t["statistics.weight"], t["statistics.shift"]),
            *heard["near"],
            bias=t["presence.bias"],
        )
    )
    wide = act(total((around(near), t["wide.weight"], t["wide.shift"]), *heard["wide"], bias=t["wide.bias"]))
    out = np.empty((count, 8, 9), dtype=np.int64)

    def of_pass(name: str, j: int, *inputs: np.ndarray) -> np.ndarray:
        """Of the inputs of a layer and, where there are two, of the ones before."""
        names = [name] if len(inputs) == 1 else [name.replace("around", "own"), name]
        terms = [
            (x, t[f"{each}.weight"][j], t[f"{each}.shift"][j]) for x, each in zip(inputs, names, strict=True)
        ]
        return total(*terms, bias=t[f"{name}.bias"][j])

    def known(terms: list[tuple[np.ndarray, np.ndarray, np.ndarray]], bias: np.ndarray) -> np.ndarray:
        return act(total(*terms, bias=t["start.bias"] + constant + bias))

    for j in range(8):
        seen = [(around(bits[:, [i]]), t["bits.weight"][i], t["bits.shift"][i]) for i in range(j)]
        seen += heard["sums"]

        seen.append((around(wide), t["start.weight"], t["start.shift"]))
        hidden = known(seen, t["hidden.bias"][j])
        message = act(of_pass("message", j, hidden))
        first_bits = np.where(second_group(count), 0, bits[:, j])[:, None]
        first = around(first_bits), t["same.weight"][j], t["same.shift"][j]
        told = known([*seen, first], t["hidden.bias"][j])
        hidden = np.where(second_group(count)[:, None], told, hidden)
        mixed = act(of_pass("around", j, hidden, around(message)))
        out[:, j, 0] = of_pass("logit", j, act(of_pass("deep", j, mixed)))[:, 0]
        hidden = known(seen, t["remaining.hidden.bias"][j])
        message = act(of_pass("remaining.message", j, hidden))
        mixed = act(of_pass("remaining.around", j, hidden, around(message)))
        out[:, j, 1:] = of_pass("remaining.logit", j, act(of_pass("remaining.deep", j, mixed)))
    return np.clip(out, -LOGIT_MAX, LOGIT_MAX)


def integer_network(
    tensors: dict[str, np.ndarray],
    neighbors: np.ndarray,
    statistics: np.ndarray,
    bits: np.ndarray,
    ranks: NodeRanks | None = None,
) -> np.ndarray:
    state = OccupancyNetwork.from_tensors(tensors).begin(neighbors, statistics, len(neighbors) // 3, ranks)
    out = np.empty((len(neighbors), 8, 9), dtype=np.int64)
    for j in range(8):
        out[:, j, 1:] = state.told().remaining()
        for group in state.groups:
            for nodes, logits in state.logits():
                out[nodes, j, 0] = logits
            state.observe(bits[group, j].astype(np.uint8))
    return out


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_integer_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    neighbors, _, _ = sphere()
    bits = rng.integers(0, 2, (len(neighbors), 8))
    statistics = rng.integers(0, 128, occupancy.STATISTICS)
    tensors = random_tensors(seed)
    got = integer_network(tensors, neighbors, statistics, bits)
    np.testing.assert_array_equal(got, reference(tensors, neighbors, statistics, bits))
    assert len(np.unique(got)) > 50


@pytest.mark.parametrize("sign", [-1, 1])
def test_equals_the_reference_where_all_weights_are_extreme(sign: int) -> None:
    neighbors, _, _ = sphere()
    bits = np.ones((len(neighbors), 8), dtype=np.int64)
    statistics = np.full(occupancy.STATISTICS, 127)
    tensors = {
        name: np.full_like(value, sign * 127) if name.endswith(".weight") else value
        for name, value in random_tensors(3).items()
    }
    got = integer_network(tensors, neighbors, statistics, bits)
    np.testing.assert_array_equal(got, reference(tensors, neighbors, statistics, bits))


@pytest.mark.parametrize("level", [3, 2, 1])
@pytest.mark.parametrize("sent", [1, 3, RANKS_MAX])
def test_equals_the_integer_reference_with_ranks(level: int, sent: int) -> None:
    rng = np.random.default_rng(10 * level + sent)
    neighbors, _, _ = sphere()
    bits = rng.integers(0, 2, (len(neighbors), 8))
    statistics = rng.integers(0, 128, occupancy.STATISTICS)
    ranks = NodeRanks(level, rng.integers(-8, 9, (len(neighbors), sent)).astype(np.int8))
    tensors = random_tensors(level, ranks=True)
    got = integer_network(tensors, neighbors, statistics, bits, ranks)
    np.testing.assert_array_equal(got, reference(tensors, neighbors, statistics, bits, ranks))
    assert (got != integer_network(tensors, neighbors, statistics, bits)).any()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("symbol", [-8, 8])
def test_equals_the_reference_where_ranks_and_weights_are_extreme(sign: int, symbol: int) -> None:
    neighbors, _, _ = sphere()
    count = len(neighbors)
    bits = np.ones((count, 8), dtype=np.int64)
    statistics = np.full(occupancy.STATISTICS, 127)
    ranks = NodeRanks(2, np.full((count, RANKS_MAX), symbol, dtype=np.int8))
    tensors = {
        name: np.full_like(value, sign * 127) if name.endswith(".weight") else value
        for name, value in random_tensors(3, ranks=True).items()
    }
    got = integer_network(tensors, neighbors, statistics, bits, ranks)
    np.testing.assert_array_equal(got, reference(tensors, neighbors, statistics, bits, ranks))


def test_absent_ranks_are_not_ranks_of_zero_and_their_number_counts() -> None:
    neighbors, occupied, _ = sphere()
    bits = (occupied[:, None].astype(np.int64) >> np.arange(8)) & 1
    tensors, statistics = random_tensors(4, ranks=True), np.arange(occupancy.STATISTICS)
    without = integer_network(tensors, neighbors, statistics, bits)
    found = [without]
    for sent in (1, 2):
        zeros = NodeRanks(1, np.zeros((len(neighbors), sent), dtype=np.int8))
        found.append(integer_network(tensors, neighbors, statistics, bits, zeros))
    assert all((a != b).any() for a, b in itertools.pairwise(found))
    for nothing in (NodeRanks(1, np.zeros((len(neighbors), 0), dtype=np.int8)), NodeRanks(4, zeros.symbols)):
        np.testing.assert_array_equal(integer_network(tensors, neighbors, statistics, bits, nothing), without)


def test_ranks_change_nothing_where_the_network_does_not_hear_them() -> None:
    neighbors, _, _ = sphere()
    bits = np.ones((len(neighbors), 8), dtype=np.int64)
    statistics = np.zeros(occupancy.STATISTICS)
    ranks = NodeRanks(2, np.ones((len(neighbors), 3), dtype=np.int8))
    deaf = random_tensors(6)
    np.testing.assert_array_equal(
        integer_network(deaf, neighbors, statistics, bits, ranks),
        integer_network(deaf, neighbors, statistics, bits),
    )


def test_ranks_behind_the_last_that_is_heard_are_ignored() -> None:
    neighbors, _, _ = sphere()
    rng = np.random.default_rng(1)
    bits = np.ones((len(neighbors), 8), dtype=np.int64)
    statistics = np.zeros(occupancy.STATISTICS)
    symbols = rng.integers(-2, 3, (len(neighbors), RANKS_MAX + 2)).astype(np.int8)
    tensors = random_tensors(7, ranks=True)
    all_, heard = (
        integer_network(tensors, neighbors, statistics, bits, NodeRanks(3, part))
        for part in (symbols, symbols[:, :RANKS_MAX])
    )
    np.testing.assert_array_equal(all_, heard)


def test_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbors, occupied, _ = sphere()
    bits = (occupied[:, None] >> np.arange(8)) & 1
    statistics = np.arange(occupancy.STATISTICS)
    tensors = random_tensors(5)
    whole = integer_network(tensors, neighbors, statistics, bits)
    monkeypatch.setattr(integer, "BLOCK", 37)
    np.testing.assert_array_equal(integer_network(tensors, neighbors, statistics, bits), whole)


def test_refuses_weights_whose_sums_could_be_inexact() -> None:
    tensors = random_tensors(1)
    tensors["geometry.start.weight"] = np.full_like(tensors["geometry.start.weight"], 127)
    tensors["geometry.start.shift"] = np.full_like(tensors["geometry.start.shift"], 20)
    with pytest.raises(ModelError):
        OccupancyNetwork.from_tensors(tensors)


def test_refuses_ranks_whose_sums_could_be_inexact() -> None:
    tensors = random_tensors(1, ranks=True)
    tensors["geometry.ranks.sums.shift"] = np.full_like(tensors["geometry.ranks.sums.shift"], 12)
    with pytest.raises(ModelError):
        OccupancyNetwork.from_tensors(tensors)


@pytest.mark.parametrize(
    "name",
    [
        "wide.weight",
        "logit.shift",
        "hidden.bias",
        "remaining.deep.weight",
        "remaining.hidden.bias",
        "ranks.near.weight",
        "ranks.sums.shift",
        "ranks.bias",
    ],
)
def test_refuses_tensors_that_do_not_fit(name: str) -> None:
    tensors = random_tensors(1, ranks=True)
    tensors["geometry." + name] = tensors["geometry." + name][..., :-1]
    with pytest.raises(ModelError):
        OccupancyNetwork.from_tensors(tensors)
    if name == "ranks.bias":
        # Without it the network is one that hears no ranks.
        return
    del tensors["geometry." + name]
    with pytest.raises(ModelError):
        OccupancyNetwork.from_tensors(tensors)


def test_tensors_round_trip_and_others_are_ignored() -> None:
    tensors = random_tensors(2)
    kept = OccupancyNetwork.from_tensors({**tensors, "synthesis.weight": np.zeros(3)}).to_tensors()
    assert kept.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(kept[name], value)
