"""From what a user names to a source."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from pccodec.errors import InputError, SourceError
from pccodec.source.base import BytesSource, FileSource, Source
from pccodec.source.remote import RemoteSource


def open_source(name: str, *, allow_partial: bool = False) -> Source:
    """The stream in a file, behind a URL, or on standard input (``"-"``).

    Files and URLs are read as the bytes are needed, pipes and standard input whole.

    Args:
        name: a path, a URL, or ``"-"``.
        allow_partial: end where no more of a URL can be had, with a warning (``RemoteSource``).

    Raises:
        InputError: the file cannot be read.
        SourceError: the URL cannot be read.
        DependencyError: reading the URL needs a package that is not installed.
    """
    if name == "-":
        return BytesSource(sys.stdin.buffer.read())
    if "://" in name:
        return _open_url(name, allow_partial)
    if os.path.exists(name) and not os.path.isfile(name):
        try:
            with open(name, "rb") as pipe:
                return BytesSource(pipe.read())
        except OSError as error:
            raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    return FileSource(name)


def _open_url(url: str, allow_partial: bool) -> Source:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceError(f"not a URL: {error}") from None
    if parts.scheme.lower() == "file":
        if parts.netloc not in ("", "localhost"):
            raise SourceError(f"{url}: files of other machines are not read")
        # Late, for it is slow to load.
        from urllib.request import url2pathname

        return FileSource(url2pathname(parts.path))
    return RemoteSource(url, allow_partial=allow_partial)
