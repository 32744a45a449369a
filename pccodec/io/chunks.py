"""Reading clouds that do not fit in memory, a chunk at a time and as often as needed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import BinaryIO, cast

import numpy as np

from pccodec.errors import InputError
from pccodec.io.cloud import ChunkedCloud
from pccodec.io.files import Source, warn_of_skipped
from pccodec.io.formats import FORMATS, format_to_read, known, named_errors
from pccodec.io.survey import Survey, survey


def open_chunks(source: Source, format: str | None = None) -> ChunkedCloud:
    """A cloud of any size: ``read`` for those that need not be in memory as a whole.

    LAS, LAZ, PLY, NPY and text are read in chunks. Read as a whole, each time, are PCD, NPZ,
    PLY with lists at or before its vertices, and NPY in Fortran order. What cannot be
    read twice, as a pipe, is copied to a temporary file first.

    Args:
        source: path, ``"-"`` for standard input, or a binary stream that starts at the cloud.
        format: one of ``format_names()``; None: by suffix, else by the first bytes.

    Raises:
        InputError: no such file or unknown format. What is wrong inside the file is found
            while it is read: malformed, no points, NaN or infinity.
        DependencyError: the format needs a package that is not installed.
    """
    if format is not None:
        known(format)
    if isinstance(source, (str, os.PathLike)):
        name = "standard input" if os.fspath(source) == "-" else str(source)
    else:
        name = str(getattr(source, "name", "stream"))
    try:
        opener: Callable[[], AbstractContextManager[BinaryIO]]
        if name == str(source):
            opener = lambda: open(name, "rb")  # noqa: E731, SIM115
        else:
            kept = _repeatable(sys.stdin.buffer if isinstance(source, (str, os.PathLike)) else source)
            opener = lambda: nullcontext(kept)  # noqa: E731
        with opener() as stream:
            return _Chunks(opener, name, format or format_to_read(stream, name))
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error


class _Chunks(ChunkedCloud):
    """The chunks of a file, and errors that name it."""

    def __init__(
        self, opener: Callable[[], AbstractContextManager[BinaryIO]], name: str, format: str
    ) -> None:
        super().__init__(self._read)
        self._open = opener
        self._name = name
        self._format = format
        self._has_warned = False

    def __iter__(self) -> Iterator[np.ndarray]:
        with self._named_errors():
            yield from super().__iter__()

    @cached_property
    def survey(self) -> Survey:
        """Number, bounds and kind of the points, from a first pass.

        Raises:
            InputError: malformed, no points, NaN or infinity.
        """
        with self._named_errors():
            return survey(super().__iter__())

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            with named_errors(self._name, self._format):
                yield
        except OSError as error:
            raise InputError(f"cannot read {self._name}: {error.strerror or error}") from error

    def _read(self) -> Iterator[np.ndarray]:
        with self._open() as stream:
            stream.seek(0)
            blocks, skipped = FORMATS[self._format].read(stream)
            if not self._has_warned:
                warn_of_skipped(self._name, skipped)
                self._has_warned = True
            yield from blocks


def _repeatable(stream: BinaryIO) -> BinaryIO:
    """The stream itself if its cloud can be read again, else a temporary copy."""
    if stream.seekable() and not stream.tell():
        return stream
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - stays open with the cloud
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy
