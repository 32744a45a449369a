"""Hashing: what a descriptor does not see, the numpy network, the index and its search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec import hashing
from pccodec.errors import InputError, ModelError
from pccodec.evaluation import hash_speed
from pccodec.hashing.descriptor import ANGLES, CELLS, OCTAVES, descriptor, size_waves, upright
from pccodec.hashing.network import from_tensors, to_tensors
from pccodec.hashing.search import distances, nearest, penalties
from pccodec.model import store


def _shape(seed: int, points: int = 3000) -> np.ndarray:
    """Points on a few boxes that stand around, float64 (n, 3)."""
    rng = np.random.default_rng(seed)
    boxes, sizes = rng.normal(size=(6, 3)), rng.uniform(0.1, 1.0, (6, 3))
    which, side = rng.integers(0, 6, points), rng.integers(0, 3, points)
    local = rng.uniform(-1, 1, (points, 3))
    local[np.arange(points), side] = rng.choice([-1, 1], points)
    return boxes[which] + local * sizes[which]


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T


def _far(code: int, other: int) -> int:
    return (code ^ other).bit_count()


def test_a_turn_about_the_vertical_turns_the_phases_alone() -> None:
    points = _shape(0, 20_000)
    spectrum = descriptor(points)[:, :CELLS]
    steps = 5
    turned = descriptor(_turned(points, steps * 2 * np.pi / ANGLES))[:, :CELLS]
    expected = spectrum * np.exp(-2j * np.pi * steps / ANGLES * np.arange(len(spectrum)))[:, None]
    error = np.linalg.norm(turned - expected) / np.linalg.norm(spectrum)
    assert error < 0.1
    assert np.linalg.norm(turned - spectrum) / np.linalg.norm(spectrum) > 0.3


def test_place_does_not_matter_and_size_has_its_column() -> None:
    points = _shape(1)
    seen, larger = descriptor(points), descriptor(points * 37.5 + 1000.0)
    assert np.allclose(seen[:, :CELLS], larger[:, :CELLS], atol=1e-4)
    turned = np.exp(2j * np.pi * np.log2(37.5) / OCTAVES * 2.0 ** np.arange(len(seen)))
    assert np.allclose(seen[:, CELLS] * turned, larger[:, CELLS], atol=1e-4)


def test_sizes_are_waves() -> None:
    waves = size_waves(np.array([0.0, 16.0, -np.inf]))
    assert np.allclose(waves[0], 1) and np.allclose(waves[1, :3], [1j, -1, 1])
    assert (waves[2] == 0).all()


def test_size_counts_unless_it_is_ignored() -> None:
    network = hashing.load()
    for seed in range(4):
        points = _shape(seed)
        assert _far(network.code(points), network.code(points * 8)) > 4
        assert _far(network.code(points, sized=False), network.code(points * 8, sized=False)) <= 1


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((1, 3)),
        np.full((5, 3), 7.0),
        np.array([[0.0, 0, 0], [0, 0, 1]]),
        np.eye(3) * 1e300,
        np.eye(3, dtype=np.int64) * 2**52,
    ],
)
def test_every_cloud_has_a_descriptor(points: np.ndarray) -> None:
    assert np.isfinite(descriptor(points)).all()
    assert 0 <= hashing.load().code(points) < 2**64


def test_any_axis_may_point_up() -> None:
    points = _shape(2)
    # The same shape as files store it whose vertical is x or y.
    lying = {"x": points[:, [2, 0, 1]], "y": points[:, [0, 2, 1]] * [1, 1, -1]}
    for up, stored in lying.items():
        assert np.array_equal(upright(stored, up), points)
        assert hashing.load().code(stored, up) == hashing.load().code(points)


@pytest.mark.parametrize("sized", [True, False])
def test_the_shipped_network_tells_shapes_and_forgives_noise_and_turns(sized: bool) -> None:
    network = hashing.load()
    rng = np.random.default_rng(0)
    codes = [network.code(_shape(seed), sized=sized) for seed in range(12)]
    for seed, code in enumerate(codes):
        points = _turned(_shape(seed), rng.uniform(0, 2 * np.pi)) * (1 if sized else rng.uniform(0.1, 10))
        points = rng.permutation(points)[:2000] + rng.normal(scale=0.02, size=(2000, 3)) * np.ptp(points) / 10
        query = network.code(points, sized=sized)
        assert min(range(12), key=lambda other: _far(query, codes[other])) == seed
        assert _far(query, code) <= 16


def test_the_file_of_a_network_gives_the_same_bits() -> None:
    network = hashing.load()
    again = from_tensors(to_tensors(network), network.id)
    spectra = np.stack([descriptor(_shape(seed, 500)) for seed in range(4)])
    assert (again.codes(spectra) == network.codes(spectra)).all()


def test_other_models_do_not_hash(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model for hashing"):
        hashing.load(store.DEFAULT)
    with pytest.raises(ModelError, match="no model"):
        hashing.load("nothing")
    tensors = to_tensors(hashing.load())
    del tensors["layer1.bias"]
    file = tmp_path / "cut.safetensors"
    store.write_tensors(file, {"kind": "hash"}, tensors)
    with pytest.raises(ModelError, match="damaged model for hashing"):
        hashing.load(str(file))
    with pytest.raises(ModelError, match="not a pccodec model"):
        store.load(hashing.DEFAULT)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60),
    st.integers(0, 2**64 - 1),
    st.integers(1, 64),
    st.integers(1, 70),
)
def test_search_is_a_stable_sort_by_distance(codes: list[int], query: int, bits: int, top: int) -> None:
    far = [_far(code >> (64 - bits), query >> (64 - bits)) for code in codes]
    array = np.array(codes, dtype=np.uint64)
    assert distances(array, query, bits).tolist() == far
    places, found = nearest(array, query, top, bits)
    expected = sorted(range(len(codes)), key=lambda place: far[place])[:top]
    assert places.tolist() == expected
    assert found.tolist() == [far[place] for place in expected]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40),
    st.integers(0, 2**64 - 1),
    st.integers(1, 64),
    st.integers(0, 2**32 - 1),
)
def test_ties_are_broken_by_the_least_certain_bits(
    codes: list[int], query: int, bits: int, seed: int
) -> None:
    # Whole numbers, so that sums are exact in any order.
    certainty = np.random.default_rng(seed).integers(0, 100, 64).astype(np.float32)
    codes = codes + [query ^ (1 << 63), query ^ 1]
    array = np.array(codes, dtype=np.uint64)

    def penalty(code: int) -> float:
        return float(sum(certainty[k] for k in range(bits) if (code ^ query) >> (63 - k) & 1))

    assert penalties(array, query, certainty, bits).tolist() == [penalty(code) for code in codes]
    places, found = nearest(array, query, len(codes), bits, certainty)
    far = [_far(code >> (64 - bits), query >> (64 - bits)) for code in codes]
    expected = sorted(range(len(codes)), key=lambda place: (far[place], penalty(codes[place])))
    assert places.tolist() == expected
    assert found.tolist() == [far[place] for place in expected]


def test_a_query_is_the_code_and_how_certain_its_bits_are() -> None:
    network, points = hashing.load(), _shape(3)
    for sized in (True, False):
        code, certainty = network.query(points, sized=sized)
        assert code == network.code(points, sized=sized)
        assert certainty.shape == (64,) and certainty.dtype == np.float32 and (certainty >= 0).all()
    # Of two codes that differ in one bit each, the closer call is the better match.
    sure, unsure = int(certainty.argmax()), int(certainty.argmin())
    index = hashing.Index.of(
        ["sure", "unsure"], [code ^ 1 << (63 - sure), code ^ 1 << (63 - unsure)], bytes(8)
    )
    assert [match.name for match in index.search(code)] == ["sure", "unsure"]
    matches = index.search(code, certainty=certainty)
    assert [(match.name, match.distance) for match in matches] == [("unsure", 1), ("sure", 1)]


def test_search_goes_through_many_codes() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    places, found = nearest(codes, int(codes[77_777]) ^ 0b101, 3)
    assert places[0] == 77_777 and found[0] == 2
    assert len(places) == 3


def test_an_index_comes_back(tmp_path: Path) -> None:
    names = ["a.ply", "sub/ü\n.ply", "\udcff.xyz"]
    index = hashing.Index.of(names, [0, 2**64 - 1, 5], bytes(range(8)), "y", False)
    index.save(tmp_path / "i")
    again = hashing.Index.load(tmp_path / "i")
    assert list(again.names) == names and again.model == bytes(range(8)) and again.up == "y"
    assert not again.sized and hashing.Index.of(names, [1, 2, 3], bytes(8)).sized
    assert (again.codes == index.codes).all()
    assert [match.name for match in again.search(4, top=2)] == ["a.ply", "\udcff.xyz"]
    with pytest.raises(InputError, match="zero characters"):
        hashing.Index.of(["a\0"], [1], bytes(8)).save(tmp_path / "j")
    assert not (tmp_path / "j").exists()


def _without(key: str) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda parts: parts.pop(key)


def _with(key: str, value: np.ndarray) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda parts: parts.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("codes"), "not an index"),
        (_with("format", np.array([9], dtype=np.uint8)), "format 9"),
        (_with("format", np.array([1], dtype=np.uint8)), "format 1, not 2: build it"),
        (_with("sized", np.array([2], dtype=np.uint8)), "damaged"),
        (_with("sized", np.zeros(0, dtype=np.uint8)), "damaged"),
        (_with("codes", np.zeros(3, dtype=np.uint64)), "damaged"),
        (_with("codes", np.zeros(2)), "damaged"),
        (_with("names", np.zeros(1, dtype=np.uint8)), "damaged"),
        (_with("up", np.array([3], dtype=np.uint8)), "damaged"),
        (_with("model", np.zeros(4, dtype=np.uint8)), "damaged"),
    ],
)
def test_files_that_are_no_index_are_refused(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    path = tmp_path / "index.npz"
    hashing.Index.of(["a", "b"], [1, 2], bytes(8)).save(path)
    with np.load(path) as file:
        parts = dict(file)
    change(parts)
    np.savez(path, **parts)
    with pytest.raises(InputError, match=message):
        hashing.Index.load(path)


def test_cut_and_foreign_files_are_no_index(tmp_path: Path) -> None:
    path = tmp_path / "index"
    hashing.Index.of(["a", "b"], [1, 2], bytes(8)).save(path)
    data = path.read_bytes()
    for junk in (b"", b"junk", data[: len(data) // 2], data[:100] + b"x" * 40 + data[140:]):
        path.write_bytes(junk)
        with pytest.raises(InputError, match="index"):
            hashing.Index.load(path)
    with pytest.raises(InputError, match="cannot read"):
        hashing.Index.load(tmp_path / "missing")


def test_speed_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    assert hash_speed.main(["--codes", "1000", "--points", "50", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert told["codes"] == 1000 and set(told["search_ms_by_bits"]) == {"8", "16", "32", "64"}
    assert told["hash_ms_by_points"]["50"] > 0
