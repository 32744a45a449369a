"""The range coder: round trips, and what every prefix of a stream may and must tell."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.entropy.rangecoder import RangeDecoder, RangeEncoder
from pccodec.errors import PccodecError


def _bits(seed: int, count: int, low: int = 1, high: int = 65536) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p_one = rng.integers(low, high, count).astype(np.uint16)
    return (rng.random(count) * 65536 < p_one).astype(np.uint8), p_one


def _encode(bits: np.ndarray, p_one: np.ndarray) -> bytes:
    encoder = RangeEncoder()
    encoder.encode_bits(bits, p_one)
    return encoder.finish()


def _costs(bits: np.ndarray, p_one: np.ndarray) -> np.ndarray:
    p = p_one / 65536
    return -np.log2(np.where(bits == 1, p, 1 - p))


@given(seed=st.integers(0, 2**32), count=st.integers(0, 400), extreme=st.booleans())
@settings(max_examples=60, deadline=None)
def test_bits_round_trip_near_their_entropy(seed: int, count: int, extreme: bool) -> None:
    bits, p_one = _bits(seed, count)
    if extreme:
        p_one = np.where(p_one % 2, 1, 65535).astype(np.uint16)
    data = _encode(bits, p_one)
    assert len(data) <= _costs(bits, p_one).sum() / 8 * 1.001 + 1.01
    np.testing.assert_array_equal(RangeDecoder(data, complete=True).decode_bits(p_one), bits)


@given(seed=st.integers(0, 2**32), chunk=st.integers(1, 90), low=st.sampled_from([1, 20000, 65000]))
@settings(max_examples=40, deadline=None)
def test_a_prefix_never_gives_a_wrong_bit(seed: int, chunk: int, low: int) -> None:
    bits, p_one = _bits(seed, 250, low)
    data = _encode(bits, p_one)
    known = []
    for cut in range(len(data) + 1):
        decoder = RangeDecoder(data[:cut], complete=False)
        got = np.concatenate([decoder.decode_bits(p_one[i : i + chunk]) for i in range(0, 250, chunk)])
        np.testing.assert_array_equal(got, bits[: len(got)])
        assert decoder.exhausted == (len(got) < 250)
        known.append(len(got))
    assert known == sorted(known)


@given(seed=st.integers(0, 2**32), low=st.sampled_from([1, 65000]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_more_bytes_go_on_where_fewer_ended(seed: int, low: int, data: st.DataObject) -> None:
    bits, p_one = _bits(seed, 300, low)
    stream = _encode(bits, p_one)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = RangeDecoder(stream[: cuts[0]] if cuts else stream, complete=not cuts)
    done = 0
    for cut in [*cuts, len(stream)]:
        decoder.extend(stream[:cut], complete=cut == len(stream))
        known = len(RangeDecoder(stream[:cut], complete=cut == len(stream)).decode_bits(p_one))
        while done < 300:
            got = decoder.decode_bits(p_one[done : done + 30])
            np.testing.assert_array_equal(got, bits[done : done + len(got)])
            if decoder.exhausted:
                assert done + len(got) == known
                break
            done += len(got)
    assert done == 300


def test_a_prefix_tells_nearly_all_that_it_holds() -> None:
    bits, p_one = _bits(7, 20_000)
    data, costs = _encode(bits, p_one), _costs(bits, p_one)
    lost = []
    for cut in np.random.default_rng(1).integers(0, len(data), 150):
        got = RangeDecoder(data[:cut], complete=False).decode_bits(p_one)
        lost.append(cut - costs[: len(got)].sum() / 8)
    assert np.mean(lost) < 1.5
    assert np.max(lost) < 6


@given(seed=st.integers(0, 2**32), size=st.sampled_from([2, 16, 33]))
@settings(max_examples=30, deadline=None)
def test_symbols_round_trip_and_prefixes(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    tables = rng.integers(1, 65536 // size, (5, size)).astype(np.uint32)
    tables[:, -1] += (65536 - tables.sum(axis=1)).astype(np.uint32)
    rows = rng.integers(0, 5, 120).astype(np.int32)
    symbols = rng.integers(0, size, 120).astype(np.int32)
    encoder = RangeEncoder()
    encoder.encode_symbols(symbols[:50], rows[:50], tables)
    encoder.encode_symbols(symbols[50:], rows[50:], tables)
    data = encoder.finish()
    np.testing.assert_array_equal(RangeDecoder(data, complete=True).decode_symbols(rows, tables), symbols)
    for cut in range(0, len(data), 3):
        got = RangeDecoder(data[:cut], complete=False).decode_symbols(rows, tables)
        np.testing.assert_array_equal(got, symbols[: len(got)])


def test_bits_and_symbols_mix_in_one_stream() -> None:
    bits, p_one = _bits(3, 40)
    tables = np.array([[60000, 5536]], dtype=np.uint32)
    rows, symbols = np.zeros(30, dtype=np.int32), np.tile([0, 0, 1], 10).astype(np.int32)
    encoder = RangeEncoder()
    encoder.encode_bits(bits, p_one)
    encoder.encode_symbols(symbols, rows, tables)
    encoder.encode_bits(bits, p_one)
    decoder = RangeDecoder(encoder.finish(), complete=True)
    np.testing.assert_array_equal(decoder.decode_bits(p_one), bits)
    np.testing.assert_array_equal(decoder.decode_symbols(rows, tables), symbols)
    np.testing.assert_array_equal(decoder.decode_bits(p_one), bits)


def test_nothing_encoded_is_no_bytes() -> None:
    assert RangeEncoder().finish() == b""
    assert len(RangeDecoder(b"", complete=True).decode_bits(np.full(9, 30000, dtype=np.uint16))) == 9
    assert len(RangeDecoder(b"", complete=False).decode_bits(np.full(9, 30000, dtype=np.uint16))) == 0


@given(data=st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_damage_gives_garbage_or_a_clear_error(data: bytes) -> None:
    p_one = np.full(2000, 40000, dtype=np.uint16)
    with contextlib.suppress(PccodecError):
        assert len(RangeDecoder(data, complete=True).decode_bits(p_one)) == 2000
    assert len(RangeDecoder(data, complete=False).decode_bits(p_one)) <= 2000


@pytest.mark.parametrize("p", [1, 32768, 65535])
def test_probabilities_reach_the_coder_exactly(p: int) -> None:
    # Many symbols of one probability, however improbable: their cost shows the coder's own one.
    bits = np.random.default_rng(5).integers(0, 2, 4096).astype(np.uint8)
    p_one = np.full(4096, p, dtype=np.uint16)
    expected = _costs(bits, p_one).sum() / 8
    assert abs(len(_encode(bits, p_one)) - expected) < 1 + 0.001 * expected


def test_golden_stream() -> None:
    bits = np.array([1, 0, 1, 1, 0, 0, 1, 0] * 4, dtype=np.uint8)
    p_one = (np.arange(32) * 2039 + 1).astype(np.uint16)
    assert _encode(bits, p_one).hex() == "fffff790f8d3ef92"
