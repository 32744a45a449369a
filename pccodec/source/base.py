"""Byte ranges of a stream, read as they are needed."""

from __future__ import annotations

import os
from typing import Protocol

from pccodec.errors import InputError


class Source(Protocol):
    """A stream, or what there is of it, by byte ranges."""

    @property
    def size(self) -> int:
        """Bytes that can be read."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, fewer where the source ends before."""


class BytesSource:
    """A stream in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return len(self._data)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, fewer where the data end before."""
        return bytes(self._data[start:stop])


class FileSource:
    """A stream in a file, which stays on disk.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        try:
            self._size = os.stat(self._path).st_size
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}") from error

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return self._size

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, fewer where the file ends before."""
        try:
            # Opened anew each time: a source then goes to other processes as it is.
            with open(self._path, "rb") as file:
                file.seek(start)
                return file.read(max(0, stop - start))
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}") from error


class PrefixSource:
    """The first bytes of another source.

    Args:
        source: the whole.
        size: bytes of it, at most.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._limit = size

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return min(self._limit, self._source.size)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, fewer where the prefix ends before."""
        stop = min(stop, self._limit)
        return self._source.read(start, stop) if start < stop else b""
