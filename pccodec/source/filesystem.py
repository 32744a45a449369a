"""Byte ranges of files on the file systems that fsspec knows: s3, gs, sftp and so on."""

from __future__ import annotations

from collections.abc import Iterator

from pccodec.errors import DependencyError, SourceError

_PIECE = 1 << 23


class FileSystemFile:
    """A file on a file system of fsspec.

    Args:
        url: ``PROTOCOL://…``. The protocol's own package must be installed.

    Attributes:
        size: bytes of the file.
        requests: ranges asked for.

    Raises:
        DependencyError: fsspec, or the package of the protocol, is not installed.
        SourceError: no such protocol or file, or one that does not tell its size.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise DependencyError("URLs need the package fsspec: pip install 'pccodec[remote]'") from None
        if "::" in url:
            # A chain may run through caches, archives and other programs' protocols.
            raise SourceError(f"{url}: chains of protocols are not read")
        self.requests = 0
        self._name = url
        try:
            self._system, self._path = url_to_fs(url)
            size = self._system.info(self._path).get("size")
        except ImportError as error:
            raise DependencyError(f"{url}: {error}") from error
        except Exception as error:  # a file system raises what its own library does
            raise SourceError(f"{url}: {_reason(error)}") from error
        if not isinstance(size, int):
            raise SourceError(f"{url}: its size is not known")
        self.size: int | None = size

    def fetch(self, start: int, stop: int) -> Iterator[bytes]:
        """Pieces of a range; they end early where the file does.

        Raises:
            SourceError: no more can be had. The pieces before it are good.
        """
        assert self.size is not None
        stop = min(stop, self.size)
        while start < stop:
            end = min(stop, start + _PIECE)
            self.requests += 1
            try:
                piece = bytes(self._system.cat_file(self._path, start=start, end=end))
            except Exception as error:  # as above
                raise SourceError(f"{self._name}: {_reason(error)}") from error
            yield piece[: end - start]
            if len(piece) != end - start:
                raise SourceError(f"{self._name}: {len(piece):,} bytes came of {end - start:,} asked for")
            start = end

    def close(self) -> None:
        """Nothing is open between two ranges."""


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return f"{type(error).__name__}: {str(error)[:200]}"
