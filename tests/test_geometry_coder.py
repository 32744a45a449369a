"""The coder of the geometry layers: round trips and every prefix of a small layer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.entropy.completion import expected_after, expected_children
from pccodec.entropy.geometry import LevelContext, LevelDecoder, decode_level, encode_level
from pccodec.errors import PccodecError
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.sparse import neighbors as maps
from tests.test_occupancy import random_tensors, sphere

NETWORK = OccupancyNetwork.from_tensors(random_tensors(0, largest=30))
HEARING = OccupancyNetwork.from_tensors(random_tensors(0, largest=30, ranks=True))


def _context(level: int = 0, ranks: int = 0) -> tuple[LevelContext, np.ndarray]:
    neighbors, occupancy, codes = sphere()
    counts = {level: int(np.unpackbits(occupancy).sum()), level + 1: len(occupancy)}
    # Ranks that tell of the children: the first ones are the ends of the axes where they lie.
    told = [(occupancy & mask != 0).astype(np.int8) for mask in (0x0F, 0x33, 0x55, 0xF0)]
    symbols = np.stack(told, axis=1)[:, :ranks] if ranks else None
    return LevelContext(neighbors, level, counts, codes, symbols), occupancy


@pytest.mark.parametrize("level", [0, 1, 2, 5])
def test_round_trip(level: int) -> None:
    context, occupancy = _context(level)
    data = encode_level(NETWORK, context, occupancy)
    decoded, known = decode_level(NETWORK, context, data, complete=True)
    np.testing.assert_array_equal(decoded, occupancy)
    assert (known == 255).all()


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("ranks", [1, 4])
def test_round_trip_with_ranks(level: int, ranks: int) -> None:
    context, occupancy = _context(level, ranks)
    data = encode_level(HEARING, context, occupancy)
    decoded, known = decode_level(HEARING, context, data, complete=True)
    np.testing.assert_array_equal(decoded, occupancy)
    assert (known == 255).all()
    heard = data != encode_level(HEARING, _context(level)[0], occupancy)
    # Level 3 is coded after the nodes of level 4, which never have ranks.
    assert heard == (level < 3)


def test_ranks_belong_to_their_nodes() -> None:
    context, occupancy = _context(0, 3)
    assert context.ranks is not None
    data = encode_level(HEARING, context, occupancy)
    shifted = replace(context, ranks=np.roll(context.ranks, 1, axis=0))
    assert encode_level(HEARING, shifted, occupancy) != data


def test_a_network_without_rank_tensors_ignores_ranks() -> None:
    context, occupancy = _context(0, 3)
    assert encode_level(NETWORK, context, occupancy) == encode_level(NETWORK, *_context())


def test_every_prefix_of_a_layer_after_ranks_gives_right_bits() -> None:
    context, occupancy = _context(1, 2)
    data = encode_level(HEARING, context, occupancy)
    told = []
    for cut in range(0, len(data) + 1, 11):
        decoded, known = decode_level(HEARING, context, data[:cut], complete=False)
        np.testing.assert_array_equal(decoded, occupancy & known)
        told.append(int(np.unpackbits(known).sum()))
    assert told == sorted(told)


def test_what_is_expected_follows_ranks_and_known_octants_only() -> None:
    context, occupancy = _context(1, 2)
    expected = expected_children(HEARING, context, occupancy, 3)
    assert expected.shape == (len(occupancy), 8) and expected.dtype == np.int32
    np.testing.assert_array_equal(expected_children(HEARING, context, occupancy & 0b111, 3), expected)
    for other in (
        expected_children(HEARING, replace(context, ranks=None), occupancy, 3),
        expected_children(HEARING, context, occupancy, 2),
    ):
        assert (other[:, 3:] != expected[:, 3:]).any()


@pytest.mark.parametrize("step", [7, 60])
def test_a_layer_in_pieces_gives_what_each_beginning_gives(step: int) -> None:
    context, occupancy = _context(1, 2)
    data = encode_level(HEARING, context, occupancy)
    decoder, passes = LevelDecoder(HEARING, context, milestones=0b1010110), set()
    for cut in range(step, len(data), step):
        found = decoder.decode(data[:cut], complete=False)
        fresh = decode_level(HEARING, context, data[:cut], complete=False)
        np.testing.assert_array_equal(found, fresh)
        passes.add((decoder.octant, decoder.group))
        octants = max(end for end in (0, 2, 3, 5, 7) if end <= decoder.octant)
        assert decoder.milestone.octants == octants
        expected = expected_children(HEARING, context, found[0], octants)
        np.testing.assert_array_equal(expected_after(decoder)[:, octants:], expected[:, octants:])
        assert expected_after(decoder) is expected_after(decoder)
    assert len(passes) > 4
    np.testing.assert_array_equal(decoder.decode(data, complete=True)[0], occupancy)


def test_every_prefix_gives_right_bits_and_more_bytes_more_bits() -> None:
    context, occupancy = _context()
    data = encode_level(NETWORK, context, occupancy)
    told = []
    for cut in range(0, len(data) + 1, 3):
        decoded, known = decode_level(NETWORK, context, data[:cut], complete=False)
        np.testing.assert_array_equal(decoded, occupancy & known)
        told.append(int(np.unpackbits(known).sum()))
    assert told == sorted(told)
    assert told[0] < 0.01 * 8 * len(occupancy) and told[-1] > 0.99 * 8 * len(occupancy)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_any_occupancy_of_scattered_nodes(seed: int, count: int) -> None:
    occupancy = np.random.default_rng(seed).integers(1, 256, count).astype(np.uint8)
    context = LevelContext(maps.root_map(count), 3, {4: count})
    data = encode_level(NETWORK, context, occupancy)
    np.testing.assert_array_equal(decode_level(NETWORK, context, data, complete=True)[0], occupancy)
    for cut in range(len(data)):
        decoded, known = decode_level(NETWORK, context, data[:cut], complete=False)
        np.testing.assert_array_equal(decoded, occupancy & known)


def test_the_last_bit_of_an_otherwise_empty_node_is_free() -> None:
    count = 500
    occupancy = np.full(count, 128, dtype=np.uint8)
    mixed = np.full(count, 129, dtype=np.uint8)
    context = LevelContext(maps.root_map(count), 3, {4: count})
    certain = len(encode_level(NETWORK, context, occupancy))
    mixed[:] = 1
    assert certain < len(encode_level(NETWORK, context, mixed))


@given(data=st.binary(max_size=80))
@settings(max_examples=30, deadline=None)
def test_damaged_layers_end_in_garbage_or_a_clear_error(data: bytes) -> None:
    context, occupancy = _context()
    try:
        decoded, _ = decode_level(NETWORK, context, data, complete=True)
        assert decoded.shape == occupancy.shape
    except PccodecError:
        pass


def test_statistics_use_only_what_the_decoder_has() -> None:
    neighbors, occupancy, _ = sphere()
    everything = LevelContext(neighbors, 5, {level: 7 ** (8 - level) for level in range(9)})
    decoder = LevelContext(neighbors, 5, {level: 7 ** (8 - level) for level in (0, 1, 2, 3, 6, 7, 8)})
    np.testing.assert_array_equal(everything.statistics, decoder.statistics)
    assert everything.statistics.min() >= 0 and everything.statistics.max() <= 127
    sparser = LevelContext(neighbors, 0, {0: len(occupancy), 1: len(occupancy)})
    denser = LevelContext(neighbors, 0, {0: 5 * len(occupancy), 1: len(occupancy)})
    assert (sparser.statistics != denser.statistics).any()


_HASH_OF_A_LAYER = """
import hashlib
from pccodec.entropy.geometry import encode_level
from tests.test_geometry_coder import NETWORK, _context
context, occupancy = _context()
print(hashlib.sha256(encode_level(NETWORK, context, occupancy)).hexdigest())
"""


@pytest.mark.parametrize(
    "setting",
    [{"OPENBLAS_NUM_THREADS": "2"}, {"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": "Nehalem"}],
)
def test_bytes_do_not_depend_on_threads_or_instruction_set(setting: dict[str, str]) -> None:
    here = hashlib.sha256(encode_level(NETWORK, *_context())).hexdigest()
    environment = {**os.environ, **setting, "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run(
        [sys.executable, "-c", _HASH_OF_A_LAYER], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here


def test_golden_layers() -> None:
    """The second value is that of the layer after three ranks."""
    digest = hashlib.sha256(encode_level(NETWORK, *_context())).hexdigest()
    assert digest[:16] == "d7972de423565044"
    digest = hashlib.sha256(encode_level(HEARING, *_context(0, 3))).hexdigest()
    assert digest[:16] == "a96481359c833759"
