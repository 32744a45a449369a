"""A file that comes once, from its start on: what servers send that ignore byte ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pccodec.errors import SourceError

_PIECE = 1 << 16


class BrokenOffError(Exception):
    """The body of an answer ended too early."""


class ForwardFile:
    """Ranges of a file that is read forwards, no further than they need.

    A file of at most ``limit`` bytes is kept as far as it was read, so that any range of it can be
    had. A larger one can be read on from where reading stopped, and its first ``limit`` bytes again.

    Args:
        name: what messages call the file.
        read: gives the next bytes, at most as many as asked for; none at the end, and
            ``BrokenOffError`` where that comes too early.
        size: bytes of the file, None where that is not known: then it is read at once.
        limit: bytes that are kept.

    Attributes:
        size: bytes of the file; of one without known size that broke off, one more than arrived.

    Raises:
        SourceError: the file's length is not known, and it is longer than ``limit``.
    """

    def __init__(self, name: str, read: Callable[[int], bytes], size: int | None, limit: int) -> None:
        self._name = name
        self._read = read
        self._limit = limit
        self._kept = bytearray()
        self._at = 0
        self.size = self._measure() if size is None else size

    def fetch(self, start: int, stop: int) -> Iterator[bytes]:
        """Pieces of a range; they end early where the file does.

        Raises:
            SourceError: the range cannot be had without the file's other parts.
        """
        stop = min(stop, self.size)
        kept = bytes(self._kept[start:stop])
        if kept:
            yield kept
            start += len(kept)
        if start >= stop:
            return
        if start != self._at and (stop > self._limit or start < self._at):
            raise SourceError(
                f"{self._name}: the server ignores byte ranges, and this part of a large file cannot be had "
                "without the rest: download the file, or decode its first bytes only (--max-bytes, --layers)"
            )
        while self._at < stop:
            piece = self._next(min(_PIECE, stop - self._at))
            if not piece:
                return
            if self._at > start:
                yield piece[max(0, start - self._at + len(piece)) :]

    def _next(self, most: int) -> bytes:
        piece = self._read(most)
        if self._at == len(self._kept) and self._at + len(piece) <= self._limit:
            self._kept += piece
        self._at += len(piece)
        return piece

    def _measure(self) -> int:
        """The size, found by reading to the end."""
        try:
            while self._at < self._limit:
                if not self._next(min(_PIECE, self._limit - self._at)):
                    return self._at
            more = self._read(1)
        except BrokenOffError:
            # Who reads on to the end finds that there is none.
            return self._at + 1
        if more:
            raise SourceError(
                f"{self._name}: the server neither serves byte ranges nor says how long the file is: "
                "download it"
            )
        return self._at
