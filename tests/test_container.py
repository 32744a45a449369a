"""Container: round trips, the size of the header, and every way in which a header can lie."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.container import (
    Header,
    TileLevels,
    layer_specs,
    level_check,
    pack,
    pack_header,
    pack_table,
    parse,
    point_budget,
    truncate,
)
from pccodec.container import header as header_module
from pccodec.errors import StreamError

MODEL = bytes.fromhex("00112233aabbccdd")


def make_header(depth: int = 10, ranks: tuple[int, int, int] = (8, 1, 1), **changes: object) -> Header:
    counts = (1_000_000, 250_000, 61_000, 14_000)
    header = Header(depth, counts, ranks, MODEL)
    return replace(header, **changes)  # type: ignore[arg-type]


CHECKS = {level: 10 * level for level in range(10)}


def realistic() -> tuple[Header, list[bytes], dict[int, int]]:
    """A dense cloud of a million points, ten bits deep, with ten ranks."""
    # Large clouds have all milestones (pccodec.codec.effort).
    header = replace(make_header(), milestones=(127, 127, 127))
    geometry = iter([3, 10, 30, 60, 150, 500, 1500, 5000, 20000, 60000])
    ranks = iter([2000, 1500, 900, 700, 500, 400, 300, 200, 900, 1700])
    source = np.random.default_rng(0)
    payloads = [source.bytes(next(geometry if s.kind == "G" else ranks)) for s in header.layers]
    return header, payloads, CHECKS


@st.composite
def headers(draw: st.DrawFn) -> Header:
    depth = draw(st.integers(1, 21))
    known = min(4, depth)
    counts = [draw(st.integers(1, min(1 << 18, 8 ** (depth - known + 1))))]
    for _ in range(known - 1):
        above = counts[0]
        counts.insert(0, draw(st.integers(above, min(8 * above, 1 << 18))))
    ranks = tuple(draw(st.integers(0, 15)) if level < depth else 0 for level in (3, 2, 1))
    is_integer = draw(st.booleans())
    axis = st.integers(-(2**53), 2**53) if is_integer else st.floats(-1e9, 1e9)
    return Header(
        depth=depth,
        counts=tuple(counts),
        ranks=ranks,  # type: ignore[arg-type]
        model_id=draw(st.binary(min_size=8, max_size=8)),
        origin=(draw(axis), draw(axis), draw(axis)),
        scale=1.0 if is_integer else draw(st.floats(1e-6, 1e6)),
        is_integer=is_integer,
        milestones=tuple(draw(st.integers(0, 127)) if level < depth else 0 for level in (5, 4, 3)),  # type: ignore[arg-type]
        surplus=draw(st.integers(0, 15)),
    )


@st.composite
def streams(draw: st.DrawFn) -> tuple[Header, list[bytes], dict[int, int]]:
    header = draw(headers())
    checks = {level: draw(st.integers(0, 255)) for level in header.checked}
    return header, [draw(st.binary(max_size=40)) for _ in header.layers], checks


def rebuild(data: bytes, head: bytes) -> bytes:
    """``data`` with another header of any length (without its CRC), its CRC made right."""
    stream = parse(data)
    return head + header_module._crc(head) + data[stream.header_size :]


def table_place(data: bytes) -> tuple[int, int]:
    """Where the table of a stream begins and ends."""
    layers, announced = parse(data).layers, parse(data).header.announced
    return layers[announced - 1].end if announced else parse(data).header_size, layers[announced].offset


@given(streams())
def test_round_trip(case: tuple[Header, list[bytes], dict[int, int]]) -> None:
    header, payloads, checks = case
    stream = parse(pack(header, payloads, checks))
    assert stream.header == header
    assert [layer.data for layer in stream.layers] == payloads
    assert [layer.spec for layer in stream.layers] == header.layers
    assert {layer.spec.level: layer.check for layer in stream.layers if layer.check is not None} == checks
    assert stream.complete and stream.trailing == 0 and stream.damage is None
    assert stream.size == len(pack(header, payloads, checks))


@given(streams())
@settings(max_examples=30, deadline=None)
def test_every_prefix_parses(case: tuple[Header, list[bytes], dict[int, int]]) -> None:
    header, payloads, checks = case
    data = pack(header, payloads, checks)
    whole = parse(data)
    table, behind = table_place(data)
    for size in range(len(data)):
        if size < whole.header_size:
            with pytest.raises(StreamError):
                parse(data[:size])
            continue
        cut = parse(data[:size])
        assert cut.header == header and cut.damage is None and cut.arrived == size
        # The base layer is announced by the header, the rest by the table.
        assert cut.size == (len(data) if size >= behind else None)
        assert len(cut.layers) == (len(whole.layers) if size >= behind else header.announced)
        layers = b"".join(layer.data for layer in cut.layers)
        expected = data[whole.header_size : min(size, table)] + data[behind:size]
        assert layers == expected
        arrived = list(takewhile(lambda layer: layer.complete, cut.layers))
        assert len(arrived) == min(len(cut.layers), sum(layer.end <= size for layer in whole.layers))


def _overhead(data: bytes) -> int:
    return len(data) - sum(layer.length for layer in parse(data).layers)


def test_overhead_is_at_most_64_bytes() -> None:
    header, payloads, checks = realistic()
    data = pack(header, payloads, checks)
    assert _overhead(data) <= 64
    # Up to the end of the base layer only the header counts.
    assert parse(data).header_size <= 40
    plain = replace(header, ranks=(0, 0, 0))
    few = [p for p, spec in zip(payloads, header.layers, strict=True) if spec.kind == "G"]
    assert parse(pack(plain, few, checks)).header_size <= 36


def test_overhead_holds_as_lengths_vary() -> None:
    source = np.random.default_rng(1)
    header, payloads, checks = realistic()
    for _ in range(200):
        factors = source.uniform(0.75, 1.33, len(payloads))
        varied = [bytes(int(len(p) * factor)) for p, factor in zip(payloads, factors, strict=True)]
        assert _overhead(pack(header, varied, checks)) <= 64


def test_parse_takes_less_than_a_millisecond() -> None:
    data = pack(*realistic())
    times = []
    for _ in range(20):
        start = time.perf_counter()
        parse(data)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


def test_layer_order() -> None:
    names = [spec.name for spec in layer_specs(5, (2, 1, 1))]
    assert names == ["G4", "G3", "R3.1", "R3.2", "G2", "R2.1", "G1", "R1.1", "G0"]
    assert [spec.name for spec in layer_specs(1, (0, 0, 0))] == ["G0"]
    assert [spec.name for spec in layer_specs(2, (0, 0, 2))] == ["G1", "R1.1", "R1.2", "G0"]
    assert [spec.stride for spec in layer_specs(3, (0, 1, 0))] == [4, 4, 2, 1]


GOLDEN = "cf500500112233aabbccdd01a0200155a99fdbf579c760010203976f616263646566fecea00405069a4a676869"


def test_golden_stream() -> None:
    checks = {5: 1, 4: 2, 3: 3, 2: 4, 1: 5, 0: 6}
    header = Header(6, (300, 90, 30, 9), (0, 1, 0), MODEL, milestones=(0, 127, 85), surplus=5)
    data = pack(header, [b"a", b"bc", b"def", b"", b"g", b"", b"hi"], checks)
    assert data.hex() == GOLDEN
    assert parse(bytes.fromhex(GOLDEN)).header == header


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
def test_levels_are_checked_from_stride_32_on(depth: int) -> None:
    counts = tuple(8 ** min(2, depth) for _ in range(min(4, depth)))
    header = Header(depth, (1,) * len(counts), (0, 0, 0), MODEL)
    assert list(header.checked) == list(range(min(5, depth - 1), -1, -1))
    # Layers in tiles have one each, and so has the last shared layer.
    for shared, coarsest in ((3, 5), (6, 6), (7, 7), (8, 7)):
        tiled = Header(8, (9, 8, 7, 6), (0, 0, 0), MODEL, tiles=TileLevels(8, shared))
        assert list(tiled.checked) == list(range(coarsest, -1, -1)) and tiled.announced == 8 - shared


@given(bit=st.integers(0, 7))
def test_flipped_header_bits_are_found(bit: int) -> None:
    data = pack(*realistic())
    for position in range(parse(data).header_size):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        with pytest.raises(StreamError):
            parse(damaged)


@given(bit=st.integers(0, 7))
def test_flipped_bits_of_the_table_are_found(bit: int) -> None:
    data = pack(*realistic())
    for position in range(*table_place(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        stream = parse(damaged)
        assert stream.damage and stream.size is None and not stream.complete
        assert stream.layers == parse(data).layers[: stream.header.announced]


def test_a_table_without_end_is_damage_and_no_cut() -> None:
    header, payloads, checks = realistic()
    begin, _ = table_place(pack(header, payloads, checks))
    front = pack(header, payloads, checks)[:begin]
    assert parse(front + b"\xaa" * 3).damage is None
    assert parse(front + b"\xaa" * 600).damage


def test_bad_magic() -> None:
    with pytest.raises(StreamError, match="not a pccodec stream"):
        parse(b"ply\n" + bytes(100))
    with pytest.raises(StreamError, match="not a pccodec stream"):
        parse(b"")


def test_newer_formats_are_named() -> None:
    data = pack(*realistic())
    with pytest.raises(StreamError, match="newer format: version 6"):
        parse(data[:2] + b"\x06" + data[3:])
    with pytest.raises(StreamError, match="version 4 is not supported"):
        parse(data[:2] + b"\x04" + data[3:])
    with pytest.raises(StreamError, match="newer format, unknown flags"):
        parse(data[:11] + bytes([data[11] | 0x20]) + data[12:])
    head = data[:11] + bytes([data[11] | 0x18]) + data[12 : parse(data).header_size - 2]
    with pytest.raises(StreamError, match="newer format, unknown kind of grid"):
        parse(rebuild(data, head))


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 0},
        {"depth": 22},
        {"counts": (1000, 500, 200)},
        {"counts": (0, 0, 0, 0)},
        {"counts": (8 * 250_000 + 1, 250_000, 61_000, 14_000)},
        {"counts": (249_999, 250_000, 61_000, 14_000)},
        {"counts": (8**7 + 1,) * 4},
        {"counts": (8**10 + 1, 8**9, 8**8, 8**7)},
        {"ranks": (16, 0, 0)},
        {"ranks": (-1, 0, 0)},
        {"model_id": b"short"},
        {"origin": (math.nan, 0, 0), "is_integer": False},
        {"scale": 0.0, "is_integer": False},
        {"scale": math.inf, "is_integer": False},
        {"scale": 2.0},
    ],
)
def test_contradicting_headers_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(StreamError):
        make_header(**changes)  # type: ignore[arg-type]


def test_ranks_need_a_level_below_the_root() -> None:
    with pytest.raises(StreamError, match="ranks at level 3"):
        Header(3, (1, 1, 1), (1, 0, 0), MODEL)


def test_lying_counts_with_a_right_checksum_are_refused() -> None:
    huge = make_header(ranks=(0, 0, 0), counts=(8**10, 8**9, 8**8, 8**7))
    front = pack_header(huge, [0] * 7, CHECKS)
    # Before the table nothing is known of what the claim stands on.
    assert parse(front).damage is None
    stream = parse(front + pack_table(huge, [0] * 10, CHECKS))
    assert stream.damage is not None and "claims 1073741824 points in 0 bytes" in stream.damage
    tiled = replace(huge, tiles=TileLevels(8, 5))
    stream = parse(pack_header(tiled, [0] * 10, CHECKS) + pack_table(tiled, [0] * 10, CHECKS))
    assert stream.damage is not None and "claims 1073741824 points in 0 bytes" in stream.damage


def test_lying_lengths_with_a_right_checksum_are_refused() -> None:
    small = Header(1, (1,), (0, 0, 0), MODEL)
    stream = parse(pack_header(small, [], {}) + pack_table(small, [81], {0: 0}))
    assert stream.damage is not None and "claims 81 bytes for layer G0" in stream.damage
    with pytest.raises(StreamError, match="too long"):
        pack(small, [bytes(81)], {0: 0})
    deep = Header(4, (1, 1, 1, 1), (0, 0, 0), MODEL)
    with pytest.raises(StreamError, match="claims 81 bytes for layer G3"):
        parse(pack_header(deep, [81], {3: 0}))


def test_clouds_beyond_the_point_budget_are_padded() -> None:
    header = make_header(counts=(8**8, 8**7, 8**6, 8**5))
    payloads = [b"x"] * len(header.layers)
    stream = parse(pack(header, payloads, CHECKS))
    payload = sum(layer.length for layer in stream.layers)
    assert point_budget(payload) >= 8**8 > point_budget(payload - 1)
    assert stream.layers[-1].data.rstrip(b"\0") == b"x"
    assert [layer.data for layer in stream.layers[:-1]] == payloads[:-1]


def test_node_budget_follows_the_bytes_that_were_of_use() -> None:
    data = pack(*realistic())
    head = parse(data).header_size
    assert parse(data[:head]).node_budget(10) == 1 << 20
    assert parse(data[: head + 100]).node_budget(6) == (1 << 20) + 25600
    # The first layer is damaged: its 3 bytes count, whatever follows.
    assert parse(data).node_budget(10) == (1 << 20) + 768


def test_max_nodes() -> None:
    header = make_header()
    assert [header.max_nodes(level) for level in (0, 2, 3, 4, 8, 10)] == [
        1_000_000, 61_000, 14_000, 14_000, 64, 1
    ]  # fmt: skip


def test_trailing_bytes_are_counted_and_ignored() -> None:
    data = pack(*realistic())
    stream = parse(data + b"12345")
    assert stream.trailing == 5 and stream.complete
    assert stream.layers == parse(data).layers
    assert truncate(data + b"12345", max_bytes=len(data) + 5) == data


def test_wrong_number_of_payloads() -> None:
    with pytest.raises(StreamError, match="19 payloads for 20 layers"):
        pack(make_header(), [b""] * 19, CHECKS)


def test_truncate() -> None:
    header, payloads, checks = realistic()
    data = pack(header, payloads, checks)
    head = parse(data).header_size
    assert truncate(data, max_bytes=head) == truncate(data, layers=0) == data[:head]
    assert truncate(data, max_bytes=1000) == data[:1000]
    assert truncate(data, max_bytes=10**9) == truncate(data, layers=10**9) == data
    table, behind = table_place(data)
    assert truncate(data, layers=7) == data[:table]
    assert truncate(data, layers=8) == data[: behind + len(payloads[7])]
    assert truncate(data[: table + 1], layers=8) == data[: table + 1]
    assert truncate(data, layers=3) == data[: head + sum(map(len, payloads[:3]))]
    assert truncate(data[:1000], layers=19) == data[:1000]
    with pytest.raises(StreamError, match="do not hold the header"):
        truncate(data, max_bytes=head - 1)
    with pytest.raises(ValueError):
        truncate(data)
    with pytest.raises(ValueError):
        truncate(data, max_bytes=1, layers=1)
    with pytest.raises(ValueError):
        truncate(data, layers=-1)


def test_level_check_covers_ranks_and_occupancy() -> None:
    occupancy = np.array([1, 200, 255], dtype=np.uint8)
    ranks = np.array([-1, 0, 3], dtype="<i2")
    assert level_check(occupancy) == level_check(occupancy.tobytes())
    assert level_check(ranks, occupancy) == level_check(ranks.tobytes() + occupancy.tobytes())
    sums = {level_check(ranks, occupancy), level_check(ranks + 1, occupancy), level_check(occupancy)}
    assert len(sums) == 3


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_never_crash(noise: bytes, with_magic: bool) -> None:
    data = pack(*realistic())[:11] + noise if with_magic else noise
    with pytest.raises(StreamError):
        parse(data)


def test_milestones_and_surplus_have_limits() -> None:
    with pytest.raises(StreamError, match="milestones"):
        Header(4, (9, 5, 2, 1), (0, 0, 0), MODEL, milestones=(0, 1, 0))
    with pytest.raises(StreamError, match="surplus"):
        Header(1, (1,), (0, 0, 0), MODEL, surplus=16)
    header = Header(5, (9, 5, 2, 1), (0, 0, 0), MODEL, milestones=(0, 5, 127))
    assert [header.milestones_at(level) for level in (7, 5, 4, 3, 2, 0)] == [0, 0, 5, 127, None, None]
