"""Streams elsewhere: only the bytes that are needed are fetched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

from pccodec.errors import SourceError
from pccodec.source.cache import RangeCache, missing
from pccodec.source.config import TransferConfig
from pccodec.source.filesystem import FileSystemFile
from pccodec.source.http import HttpFile

logger = logging.getLogger(__name__)


class _RangeFile(Protocol):
    """A file whose ranges can be fetched."""

    size: int | None
    requests: int

    def fetch(self, start: int, stop: int) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class RemoteSource:
    """A stream behind a URL, by byte ranges; a ``Source``.

    The first bytes are fetched at once. What was fetched is kept for a while, so that the header
    and the directories of a stream are fetched once.

    Args:
        url: ``http://``, ``https://``, or a protocol of fsspec: ``s3://``, ``gs://``, ``sftp://`` …
        allow_partial: where no more can be had, end there with a warning instead of raising: the
            source then ends with the last byte that arrived.
        config: limits and timeouts.

    Attributes:
        fetched: bytes that arrived.

    Raises:
        SourceError: nothing can be had.
        DependencyError: a package is missing.
    """

    def __init__(
        self, url: str, *, allow_partial: bool = False, config: TransferConfig | None = None
    ) -> None:
        self.fetched = 0
        self._allow_partial = allow_partial
        self._config = config or TransferConfig()
        self._cache = RangeCache(self._config.cache)
        web = urlsplit(url).scheme.lower() in ("http", "https")
        self._file: _RangeFile = HttpFile(url, self._config) if web else FileSystemFile(url)
        self._end: int | None = None
        self._fetch(0, self._config.first)

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        size = self._file.size if self._end is None else self._end
        return size or 0

    @property
    def requests(self) -> int:
        """Requests made."""
        return self._file.requests

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``, fewer where the source ends before.

        Raises:
            SourceError: they cannot be had, and ``allow_partial`` is not set.
        """
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        held = self._cache.held(start, stop)
        data = bytearray(stop - start)
        for at, piece in held:
            data[at - start : at - start + len(piece)] = piece
        for low, high in missing(start, stop, held, self._config.bridge):
            arrived = self._fetch(low, high)
            data[low - start : low - start + len(arrived)] = arrived
            if len(arrived) < high - low:
                return bytes(data[: low - start + len(arrived)])
        return bytes(data)

    def close(self) -> None:
        """Close what is open, and log what was fetched."""
        self._file.close()
        logger.info("%s bytes fetched in %d requests", f"{self.fetched:,}", self.requests)

    def _fetch(self, start: int, stop: int) -> bytes:
        """Bytes of a range, fewer only if the source ends with them."""
        arrived = bytearray()
        try:
            for piece in self._file.fetch(start, stop):
                arrived += piece
        except SourceError as error:
            if not (arrived or start):
                raise
            if not self._allow_partial:
                raise SourceError(f"{error}; --allow-partial decodes what arrived") from error
            self._end = start + len(arrived)
            logger.warning("%s; only what arrived is used", error)
        finally:
            self.fetched += len(arrived)
        data = bytes(arrived)
        self._cache.add(start, data)
        return data
