"""Streams on web servers that serve byte ranges well or badly."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec.errors import SourceError
from pccodec.source import (
    RemoteSource,
    TransferConfig,
)
from tests.range_server import Served, serve

DATA = np.random.default_rng(0).bytes(300_000)
QUICK = TransferConfig(timeout=0.3)
SMALL = TransferConfig(first=100, whole_limit=50_000, cache=40_000, bridge=10, timeout=5.0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def remote(served: Served, config: TransferConfig = SMALL, allow_partial: bool = False) -> RemoteSource:
    return RemoteSource(served.url, config=config, allow_partial=allow_partial)


ranges = st.lists(st.tuples(st.integers(0, 350), st.integers(0, 350)), min_size=1, max_size=6)


@given(
    data=st.binary(max_size=300),
    wanted=ranges,
    cache=st.integers(0, 600),
    bridge=st.integers(0, 20),
    first=st.integers(1, 50),
    behaviour=st.sampled_from(
        [
            {},
            {"most": 70_000},
            {"ranges": False},
            {"ranges": False, "chunked": True},
            {"cut_after": 200, "cuts": 2},
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_servers_read_like_bytes(
    data: bytes,
    wanted: list[tuple[int, int]],
    cache: int,
    bridge: int,
    first: int,
    behaviour: dict[str, object],
) -> None:
    config = TransferConfig(first=first, cache=cache, bridge=bridge)
    with serve(data, **behaviour) as served, closing(remote(served, config)) as source:
        assert source.size == len(data)
        assert [source.read(*piece) for piece in wanted] == [data[a:b] for a, b in wanted]


@given(
    data=st.binary(min_size=2, max_size=300),
    cut=st.integers(0, 300),
    wanted=ranges,
    first=st.integers(1, 50),
    chunked=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_arrives_of_a_cut_file_reads_like_its_prefix(
    data: bytes, cut: int, wanted: list[tuple[int, int]], first: int, chunked: bool
) -> None:
    """A server that ignores ranges and breaks off: either all is right, or the source ends there."""
    config = TransferConfig(first=first)
    cut = min(cut, len(data))
    with serve(data, ranges=False, cut_after=cut, chunked=chunked) as served:
        if cut == 0:
            with pytest.raises(SourceError):
                remote(served, config, allow_partial=True)
            return
        if cut < len(data):
            with pytest.raises(SourceError, match="allow-partial"), closing(remote(served, config)) as source:
                source.read(0, len(data))
        with closing(remote(served, config, allow_partial=True)) as source:
            for start, stop in wanted:
                assert source.read(start, stop) == data[start : min(stop, cut)]
            source.read(0, len(data))
            assert source.size == cut


@given(
    data=st.binary(min_size=2, max_size=300), cut=st.integers(1, 100), wanted=ranges, first=st.integers(1, 50)
)
@settings(max_examples=40, deadline=None)
def test_ranges_that_are_always_cut_read_like_their_beginning(
    data: bytes, cut: int, wanted: list[tuple[int, int]], first: int
) -> None:
    config = TransferConfig(first=first)
    with serve(data, cut_after=cut) as served, closing(remote(served, config, allow_partial=True)) as source:
        for start, stop in wanted:
            before = source.size
            read = source.read(start, stop)
            assert read == data[start : min(stop, source.size)]
            assert source.size in (before, start + len(read))
            # Nothing is given up that three answers hold.
            assert source.size == before or stop - start > 3 * cut


def test_only_what_is_needed_is_fetched() -> None:
    with serve(DATA) as served, closing(remote(served)) as source:
        assert source.size == len(DATA)
        assert source.read(20, 90) == DATA[20:90]
        assert (source.fetched, source.requests) == (100, 1)
        assert source.read(50, 300) == DATA[50:300]
        assert source.read(200_000, 200_050) == DATA[200_000:200_050]
        assert source.read(200_040, 200_060) == DATA[200_040:200_060]
        assert served.asked == [(0, 100), (100, 300), (200_000, 200_050), (200_050, 200_060)]
        assert source.read(0, 300) == DATA[:300]
        assert (source.fetched, source.requests) == (360, 4)
        assert source.read(299_990, 400_000) == DATA[299_990:] and source.read(400_000, 400_010) == b""


def test_what_is_kept_between_two_gaps_is_fetched_again_if_it_is_short() -> None:
    with serve(DATA) as served, closing(remote(served)) as source:
        for start, stop in [(200, 260), (265, 275), (300, 311)]:
            source.read(start, stop)
        assert source.read(200, 330) == DATA[200:330]
        assert served.asked[4:] == [(260, 300), (311, 330)]


def test_the_last_that_was_fetched_is_kept() -> None:
    with serve(DATA) as served, closing(remote(served)) as source:
        for start in range(1000, 61_000, 6000):
            source.read(start, start + 6000)
        before = source.requests
        source.read(55_000, 61_000)
        assert source.requests == before
        source.read(1000, 2000)
        assert source.requests == before + 1 == len(served.asked)


def test_prefix_of_a_server_that_ignores_ranges_is_all_that_is_read() -> None:
    data = DATA * 100
    with serve(data, ranges=False) as served, closing(remote(served)) as source:
        assert source.size == len(data)
        assert source.read(0, 20_000) == data[:20_000]
        assert (source.fetched, source.requests) == (20_000, 1)
        # Kept, though a later part is read on.
        assert source.read(20_000, 60_000) == data[20_000:60_000]
        assert source.read(10, 30) == data[10:30]
        with pytest.raises(SourceError, match=r"ignores byte ranges.*download"):
            source.read(20_000_000, 20_000_010)
        assert source.fetched == 60_000
    # Beside it the system's buffers hold what was sent and not read.
    assert served.sent < len(data) // 2


def test_small_files_of_servers_that_ignore_ranges_are_taken_whole() -> None:
    data = DATA[:50_000]
    with serve(data, ranges=False) as served, closing(remote(served)) as source:
        assert source.read(40_000, 40_010) == data[40_000:40_010]
        assert source.read(10_000, 10_010) == data[10_000:10_010]
        assert source.requests == 1
    with serve(DATA, ranges=False, chunked=True) as served, pytest.raises(SourceError, match="how long"):
        remote(served)


def test_a_broken_connection_is_resumed() -> None:
    with serve(DATA, cut_after=70_000, cuts=2) as served, closing(remote(served)) as source:
        assert source.read(0, 200_000) == DATA[:200_000]
        assert served.asked == [(0, 100), (100, 200_000), (70_100, 200_000), (140_100, 200_000)]


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_is_always_cut(reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    with serve(DATA, cut_after=5000, reset=reset) as served:
        with closing(remote(served)) as source, pytest.raises(SourceError) as caught:
            source.read(0, 200_000)
        assert "--allow-partial" in str(caught.value) and "at byte 15,100" in str(caught.value)
        with closing(remote(served, allow_partial=True)) as source:
            assert source.size == len(DATA)
            assert source.read(0, 200_000) == DATA[:15_100]
            assert source.size == 15_100 and source.read(0, 200_000) == DATA[:15_100]
            assert source.read(15_100, 15_200) == b"" == source.read(100_000, 100_100)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "at byte 15,100; only what arrived is used" in warnings[0]


def test_servers_may_cap_ranges() -> None:
    with serve(DATA, most=65_536) as served, closing(remote(served)) as source:
        assert source.read(0, 300_000) == DATA and source.requests == 6
    with serve(DATA, most=10) as served, pytest.raises(SourceError, match="less was sent than asked for"):
        remote(served)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Range": None}, "contradicts itself"),
        ({"Content-Range": "bytes 7-106/300000"}, "contradicts itself"),
        ({"Content-Range": "bytes {start}--5/300000"}, "contradicts itself"),
        ({"Content-Range": "bytes -5-{stop}/300000"}, "contradicts itself"),
        ({"Content-Range": "bytes {start}-99/50"}, "contradicts itself"),
        ({"Content-Range": "bytes {start}-99/-300000"}, "contradicts itself"),
        ({"Content-Range": "bytes {start}-99/" + "9" * 40}, "contradicts itself"),
        ({"Content-Range": "bytes {start}-99/*"}, "how long the file is"),
        ({"Content-Length": "7"}, "contradicts itself"),
        ({"Content-Length": "99999999"}, "contradicts itself"),
        ({"Content-Length": "-100"}, "announces '-100' bytes"),
        ({"Content-Length": "many"}, "announces 'many' bytes"),
        ({"Content-Encoding": "gzip"}, "compresses"),
    ],
)
def test_lies_about_lengths(headers: dict[str, str | None], message: str) -> None:
    with serve(DATA, headers=headers) as served, pytest.raises(SourceError, match=message):
        remote(served)


def test_a_length_that_is_too_long() -> None:
    lies: dict[str, str | None] = {"Content-Range": "bytes {start}-999/5000", "Content-Length": "1000"}
    config = TransferConfig(first=1000)
    with serve(DATA[:501], headers=lies, cut_after=500) as served:
        # The lie cannot be kept up when the rest is asked for.
        with pytest.raises(SourceError, match="contradicts itself"):
            remote(served, config)
        with closing(remote(served, config, allow_partial=True)) as source:
            assert source.size == 500 and source.read(0, 1000) == DATA[:500]


def test_bytes_that_are_announced_and_never_sent(caplog: pytest.LogCaptureFixture) -> None:
    lies: dict[str, str | None] = {"Content-Range": "bytes {start}-999/5000", "Content-Length": "1000"}
    config = TransferConfig(first=1000, timeout=1.5, retries=0)
    with serve(DATA[:500], headers=lies) as served:
        source = remote(served, config, allow_partial=True)
        source.close()
    assert source.size == 500 and source.read(0, 1000) == DATA[:500]
    assert "no answer in time at byte 500" in caplog.text


def test_a_file_that_changes_is_found() -> None:
    with serve(DATA, etags=['"a"', '"b"']) as served:
        source = remote(served)
        with closing(source), pytest.raises(SourceError, match="changed"):
            source.read(0, 1000)
    with serve(DATA) as served, closing(remote(served)) as source:
        served.behaviour.data = DATA[:-1]
        with pytest.raises(SourceError, match="changed"):
            source.read(0, 1000)
    with serve(DATA) as served, closing(remote(served)) as source:
        served.behaviour.data = DATA[:500]
        with pytest.raises(SourceError, match="changed"):
            source.read(1000, 2000)


@pytest.mark.parametrize("status", [403, 404, 500, 503, 204, 304])
def test_statuses_are_named(status: int) -> None:
    with serve(DATA, status=status) as served, pytest.raises(SourceError, match=f"answers {status} "):
        remote(served, allow_partial=True)


def test_redirects_are_followed_to_an_end() -> None:
    with serve(DATA, location="/moved") as served, closing(remote(served)) as source:
        assert source.read(0, 50) == DATA[:50] and source.requests == 2
    with serve(DATA, location="/cloud.pcc") as served, pytest.raises(SourceError, match="redirects"):
        remote(served)
    with serve(DATA, location="file:///etc/hostname") as served, pytest.raises(SourceError):
        remote(served)


def test_a_server_that_does_not_answer() -> None:
    with serve(DATA, stall=2.0) as served, pytest.raises(SourceError, match="no answer in time"):
        remote(served, QUICK)


def test_nobody_there() -> None:
    with serve(DATA) as served:
        url = served.url
    with pytest.raises(SourceError, match="refused"):
        RemoteSource(url, config=QUICK)


def test_an_empty_file_is_empty() -> None:
    for behaviour in ({}, {"ranges": False}):
        with serve(b"", **behaviour) as served, closing(remote(served)) as source:
            assert source.size == 0 and source.read(0, 10) == b""


def test_messages_hide_passwords_and_keys() -> None:
    with serve(DATA, status=403) as served:
        secret = served.url.replace("127.0.0.1", "user:hidden@127.0.0.1") + "?key=hidden"
        with pytest.raises(SourceError) as caught:
            RemoteSource(secret)
    assert "hidden" not in str(caught.value) and served.url in str(caught.value)
