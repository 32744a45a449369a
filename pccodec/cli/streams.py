"""Streams from and to files, URLs, standard input and standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pccodec import container
from pccodec.container import Stream
from pccodec.errors import StreamError
from pccodec.source import BytesSource, RemoteSource, Source, open_source

_PIECE = 1 << 23


@contextmanager
def reading(name: str, allow_partial: bool = False) -> Iterator[Source]:
    """The stream in a file, behind a URL or, for ``"-"``, on standard input; closed in the end.

    Raises:
        InputError, SourceError, DependencyError: it cannot be read (``open_source``).
    """
    source = open_source(name, allow_partial=allow_partial)
    try:
        yield source
    finally:
        if isinstance(source, RemoteSource):
            source.close()


def write_stream(path: str, data: bytes) -> None:
    """Write a file that appears complete or not at all, or standard output for ``"-"``.

    Raises:
        InputError: the file cannot be written.
    """
    write_prefix(path, BytesSource(data), len(data))


def write_prefix(path: str, source: Source, size: int) -> int:
    """``write_stream`` of the first ``size`` bytes of a source; returns how many it has of them."""
    refuse_terminal(path)
    from pccodec.io import atomic_write

    written = 0
    with atomic_write(path) as file:
        while written < size:
            piece = source.read(written, min(size, written + _PIECE))
            if not piece:
                break
            file.write(piece)
            written += len(piece)
    return written


def cut_size(stream: Stream, *, max_bytes: int | None = None, layers: int | None = None) -> int:
    """``container.prefix_size``, with a usage error for layers that do not exist or sizes below the header.

    Raises:
        click.UsageError: there are fewer layers, or the header is larger.
    """
    if layers is not None and layers > len(stream.header.layers):
        raise click.UsageError(f"the stream has {len(stream.header.layers)} layers")
    try:
        return container.prefix_size(stream, max_bytes=max_bytes, layers=layers)
    except StreamError as error:
        raise click.UsageError(str(error)) from error


def refuse_terminal(path: str) -> None:
    """Raise ``click.UsageError`` if binary data would be written to a terminal."""
    if path == "-" and sys.stdout.isatty():
        raise click.UsageError("binary data are not written to a terminal: name a file or use a pipe")
