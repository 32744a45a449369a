"""Sources in memory, in files, and of file systems; what is kept of them."""

from __future__ import annotations

import os
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pccodec.errors import DependencyError, InputError, SourceError
from pccodec.source import (
    BytesSource,
    FileSource,
    PrefixSource,
    RemoteSource,
    Source,
    open_source,
)
from pccodec.source.cache import RangeCache, missing
from pccodec.source.forward import ForwardFile

DATA = np.random.default_rng(0).bytes(300_000)

ranges = st.lists(st.tuples(st.integers(0, 350), st.integers(0, 350)), min_size=1, max_size=6)


@given(data=st.binary(max_size=300), wanted=ranges)
def test_files_read_like_bytes(data: bytes, wanted: list[tuple[int, int]], tmp_path_factory: object) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(data)
    longer = BytesSource(data + b"more")
    sources: list[Source] = [BytesSource(data), FileSource(path), PrefixSource(longer, len(data))]
    sources.append(PrefixSource(BytesSource(data), len(data) + 9))
    for source in sources:
        assert source.size == len(data)
        assert [source.read(*piece) for piece in wanted] == [data[a:b] for a, b in wanted]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 40)), max_size=10),
    st.tuples(st.integers(0, 100), st.integers(0, 100)),
    st.integers(0, 300),
    st.integers(0, 20),
)
def test_cache_holds_what_was_added(
    added: list[tuple[int, int]], wanted: tuple[int, int], limit: int, bridge: int
) -> None:
    data, cache = bytes(range(200)), RangeCache(limit)
    for at, size in added:
        cache.add(at, data[at : at + size])
    start, stop = wanted
    held = cache.held(start, stop)
    assert all(data[at : at + len(piece)] == piece for at, piece in held)
    assert sum(len(piece) for _, piece in cache.held(0, 200)) <= limit
    gaps = missing(start, stop, held, bridge)
    covered = {i for at, piece in held for i in range(at, at + len(piece))}
    covered |= {i for low, high in gaps for i in range(low, high)}
    assert covered == set(range(start, stop))
    assert all(after[0] - before[1] > bridge for before, after in pairwise(gaps))


def test_large_files_without_ranges_are_read_on_but_not_back() -> None:
    def forward() -> ForwardFile:
        rest = iter([DATA[at : at + 100] for at in range(0, 3000, 100)])
        return ForwardFile("file", lambda most: next(rest, b"")[:most], 3000, 1000)

    file = forward()
    assert b"".join(file.fetch(0, 800)) == DATA[:800]
    assert b"".join(file.fetch(800, 1800)) == DATA[800:1800]
    assert b"".join(file.fetch(100, 1000)) == DATA[100:1000]
    for back in [(100, 1100), (1700, 1900), (1000, 1001)]:
        with pytest.raises(SourceError, match="download"):
            list(file.fetch(*back))
    assert b"".join(file.fetch(1800, 9000)) == DATA[1800:3000]
    assert b"".join(forward().fetch(500, 700)) == DATA[500:700]


@pytest.mark.parametrize(
    "url", ["http://[::1/x", "http://host:99999/x", "http:///x", "https://", "http://\0/"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(SourceError):
        open_source(url)


def test_file_systems_of_fsspec() -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/cloud.pcc", DATA)
    source = open_source("memory://cloud.pcc")
    assert isinstance(source, RemoteSource)
    assert source.size == len(DATA) and source.read(290_000, 400_000) == DATA[290_000:]
    assert source.read(0, 4000) == DATA[:4000] and source.requests == 2
    fsspec.filesystem("memory").pipe("/cloud.pcc", DATA[:9000])
    with pytest.raises(SourceError, match="2,000 bytes came of 93,000 asked for"):
        source.read(7000, 100_000)
    with pytest.raises(SourceError, match="no such file"):
        open_source("memory://nothing.pcc")
    with pytest.raises(SourceError, match="nonsense"):
        open_source("nonsense://cloud.pcc")
    with pytest.raises(SourceError, match="chains"):
        open_source("zip://cloud.pcc::memory://all.zip")


@pytest.mark.parametrize(
    ("url", "package"), [("http://127.0.0.1/x", "requests"), ("memory://x", "fsspec.core")]
)
def test_packages_are_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=r"pip install 'pccodec\[remote\]'"):
        open_source(url)


def test_files_and_pipes(tmp_path: Path) -> None:
    path = tmp_path / "a file.pcc"
    path.write_bytes(DATA)
    for name in (str(path), path.as_uri()):
        source = open_source(name)
        assert isinstance(source, FileSource) and source.read(5, 9) == DATA[5:9]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_bytes, args=(DATA[:1000],))
    thread.start()
    assert open_source(str(pipe)).read(900, 2000) == DATA[900:1000]
    thread.join()
    with pytest.raises(InputError, match="cannot read"):
        open_source(str(tmp_path))
    with pytest.raises(InputError, match="cannot read"):
        open_source((tmp_path / "nothing").as_uri())
    with pytest.raises(SourceError, match="other machines"):
        open_source("file://elsewhere/x")
