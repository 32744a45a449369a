"""Decoding in pieces: after any of them the points are those of all bytes so far."""

from __future__ import annotations

import logging
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pccodec
from pccodec import codec, container
from pccodec.codec.correction import corrected
from pccodec.errors import DamagedError, StreamError
from pccodec.evaluation.metrics import Reference
from pccodec.model.upsampling import Known, Partial

CLOUDS = ["dense", "ranks", "sparse", "floats", "plane", "damaged"]


def _shell(radius: float, bits: int) -> np.ndarray:
    side = np.arange(1 << bits) - ((1 << bits) - 1) / 2
    distance = np.sqrt(side[:, None, None] ** 2 + side[:, None] ** 2 + side**2)
    return np.argwhere(np.abs(distance - radius) < 0.6)


@cache
def _stream(name: str) -> bytes:
    rng = np.random.default_rng(1)
    if name == "sparse":
        return codec.encode(rng.integers(0, 900, (80, 3)))
    if name == "floats":
        return codec.encode(rng.normal(size=(300, 3)) * [30, 20, 5] + [4.5e5, 5.2e6, 120], voxel_size=4.0)
    if name == "plane":
        return codec.encode(np.argwhere(np.ones((30, 26, 1))))
    if name == "dense":
        return codec.encode(_shell(11.3, 5))
    data = codec.encode(_shell(7.3, 4), ranks=(2, 1, 1))
    if name == "damaged":
        layer = next(layer for layer in container.parse(data).layers if layer.spec.name == "G0")
        place = layer.offset + layer.length // 2
        data = data[:place] + bytes(byte ^ 0x5A for byte in data[place:])
    return data


@cache
def _whole(name: str, size: int) -> np.ndarray:
    return codec.decode(_stream(name)[:size])


def _check(name: str, ends: list[int], asked: set[int]) -> None:
    data = _stream(name)
    head = container.parse(data).header_size
    decoder = pccodec.Decoder()
    for begin, end in pairwise([0, *ends]):
        decoder.feed(data[begin:end])
        if end >= head and end in asked:
            points, expected = decoder.points(), _whole(name, end)
            assert points.dtype == expected.dtype
            np.testing.assert_array_equal(points, expected)


@given(name=st.sampled_from(CLOUDS), data=st.data())
@settings(max_examples=20, deadline=None)
def test_points_are_those_of_all_bytes_so_far(name: str, data: st.DataObject) -> None:
    size = len(_stream(name))
    ends = sorted({*data.draw(st.lists(st.integers(1, size), max_size=8)), size})
    asked = set(data.draw(st.lists(st.sampled_from(ends), unique=True)))
    _check(name, ends, asked)


@pytest.mark.parametrize(("name", "step"), [("ranks", 3), ("sparse", 11)])
def test_single_bytes(name: str, step: int) -> None:
    size = len(_stream(name))
    _check(name, list(range(1, size + 1)), set(range(size, 0, -step)))


def test_layers_and_bytes_needed_follow_the_bytes() -> None:
    data = _stream("ranks")
    stream = container.parse(data)
    decoder = pccodec.Decoder()
    assert decoder.header is None and decoder.bytes_needed is None and decoder.layers == ()
    for size in range(1, len(data) + 1):
        decoder.feed(data[size - 1 : size])
        if size < stream.header_size:
            assert decoder.header is None and decoder.layers == ()
            with pytest.raises(StreamError, match="more bytes are needed"):
                decoder.points()
        else:
            whole = [layer.spec for layer in stream.layers if layer.offset + layer.length <= size]
            known = size >= stream.layers[stream.header.announced].offset
            assert decoder.header == stream.header
            assert decoder.bytes_needed == (len(data) - size if known else None)
            assert decoder.layers == tuple(whole)
    before = decoder.points()
    decoder.feed(b"bytes behind the end")
    assert decoder.bytes_needed == 0
    np.testing.assert_array_equal(decoder.points(), before)


def test_what_is_no_stream_is_refused_at_once() -> None:
    with pytest.raises(StreamError, match="not a pccodec stream"):
        pccodec.Decoder().feed(b"\xcfQ")
    data = bytearray(_stream("dense"))
    data[20] ^= 1
    decoder = pccodec.Decoder()
    with pytest.raises(StreamError):
        for byte in data:
            decoder.feed(bytes([byte]))


def test_a_header_that_never_ends_is_damaged() -> None:
    head = _stream("dense")[:11]
    endless = head + b"\x00" + b"\xff" * 4000
    with pytest.raises(StreamError):
        decoder = pccodec.Decoder()
        for byte in endless:
            decoder.feed(bytes([byte]))


def test_damage_is_told_once_or_raised_each_time(caplog: pytest.LogCaptureFixture) -> None:
    data = _stream("damaged")
    stream = container.parse(data)
    logging.getLogger("pccodec").propagate = True
    decoder, strict = pccodec.Decoder(), pccodec.Decoder(strict=True)
    with caplog.at_level(logging.WARNING, logger="pccodec"):
        for begin in range(0, len(data), 50):
            decoder.feed(data[begin : begin + 50])
            if begin > stream.header_size:
                decoder.points()
    assert caplog.text.count("damaged in layer G0") == 1
    # The ranks before the damaged geometry are covered by the same check.
    assert [spec.name for spec in decoder.layers][-1] == "G1"
    for _ in range(2):
        with pytest.raises(DamagedError, match="damaged in layer G0"):
            strict.feed(data)
    with pytest.raises(DamagedError, match="damaged in layer G0"):
        strict.points()


@given(name=st.sampled_from(CLOUDS), data=st.data())
@settings(max_examples=20, deadline=None)
def test_without_refreshing_the_points_follow_what_is_known(name: str, data: st.DataObject) -> None:
    stream = _stream(name)
    head = container.parse(stream).header_size
    ends = sorted({*data.draw(st.lists(st.integers(head, len(stream)), min_size=1, max_size=6)), len(stream)})
    decoder = pccodec.Decoder()
    for number, (begin, end) in enumerate(pairwise([0, *ends])):
        decoder.feed(stream[begin:end])
        points = decoder.points(refresh=False)
        if number == 0:
            np.testing.assert_array_equal(points, _whole(name, end))
        assert len(np.unique(points, axis=0)) == len(points)
    np.testing.assert_array_equal(decoder.points(), _whole(name, len(stream)))
    if name != "damaged":
        np.testing.assert_array_equal(points, _whole(name, len(stream)))


def test_predicted_voxels_are_corrected_by_known_bits() -> None:
    # Two nodes at stride 4; of the first the children 0 and 1 are known to be there and 2 not to be.
    codes = np.array([0, 5], dtype=np.uint64)
    found, bits = (np.array(values, dtype=np.uint8) for values in ([0b011, 0], [0b111, 0b111]))
    predicted = np.array([0 * 8 + 3, 2 * 8 + 1, 6 * 8 + 2, 3 * 64 + 9], dtype=np.uint64)
    partial = Known({2: codes}, {}, {}, partial=Partial(found, bits))
    # Child 1 of node 0 and node 5 hold nothing that was predicted: they get their centres.
    assert corrected(predicted, partial).tolist() == [3, 8 + 7, 6 * 8 + 2, 5 * 64 + 7 * 8]
    assert corrected(predicted, Known({2: codes}, {}, {})).tolist() == [3, 17, 50, 5 * 64 + 7 * 8]
    assert corrected(predicted, Known({0: codes}, {}, {})).tolist() == [0, 5]


def test_without_refreshing_quality_rises_with_the_bytes() -> None:
    data, points = _stream("dense"), codec.decode(_stream("dense"))
    reference, decoder = Reference(points), pccodec.Decoder()
    quality: list[float] = []
    ends = np.linspace(container.parse(data).header_size, len(data) - 1, 12).astype(int).tolist()
    for begin, end in pairwise([0, *ends]):
        decoder.feed(data[begin:end])
        quality.append(reference.compare(decoder.points(refresh=len(quality) == 2)).d1_psnr)
    assert (np.diff(quality) > -0.1).all() and quality[-1] > quality[3] + 5
