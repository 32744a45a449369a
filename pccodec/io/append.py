"""Writing a cloud chunk by chunk, to a file that appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

import numpy as np

from pccodec.errors import InputError
from pccodec.io.atomic import atomic_write
from pccodec.io.formats import FORMATS, format_to_write, known
from pccodec.io.spec import CloudSpec, PointWriter

Target = str | os.PathLike[str] | BinaryIO


class CloudWriter:
    """Takes the points of a cloud, chunk by chunk."""

    def __init__(self, writer: PointWriter, spec: CloudSpec) -> None:
        self._writer = writer
        self._spec = spec
        self.count = 0
        """Points written so far."""

    def write(self, points: np.ndarray) -> None:
        """Append points (n, 3), n ≥ 0, finite and within the bounds that were announced."""
        if len(points):
            self._writer.write(points.astype(self._spec.dtype, copy=False))
            self.count += len(points)

    def finish(self) -> None:
        """Complete the file.

        Raises:
            InputError: there were no points.
            ValueError: there were more or fewer points than announced.
        """
        if not self.count:
            raise InputError("the cloud has no points")
        if self._spec.total not in (None, self.count):
            raise ValueError(f"{self.count} points written where {self._spec.total} were announced")
        self._writer.finish(self.count)


@contextmanager
def open_writer(target: Target, spec: CloudSpec, format: str | None = None) -> Iterator[CloudWriter]:
    """Open a cloud for writing; the file appears under its name when the block ends well.

    Memory does not grow with the cloud, but for PCD and NPZ, which are collected and
    written at the end. Standard output and other streams get the cloud at the end where
    its format has a header that is completed last: LAS and LAZ, and PLY and NPY if
    ``spec`` has no total. Until then it is in a temporary file.

    Args:
        target: path, ``"-"`` for standard output, or a binary stream.
        spec: what is known of the cloud.
        format: one of ``format_names()``; None: by suffix, PLY for streams.

    Raises:
        InputError: unknown format, no points, or the target cannot be written.
        DependencyError: the format needs a package that is not installed.
    """
    is_path = isinstance(target, (str, os.PathLike))
    if format is None:
        format = format_to_write(cast(str, target)) if is_path else "ply"
    chosen = FORMATS[known(format)]
    with ExitStack() as stack:
        stream = stack.enter_context(atomic_write(cast(str, target))) if is_path else cast(BinaryIO, target)
        # A stream of others may be a pipe, or a file that is written from somewhere on.
        spools = chosen.seeks(spec) and not (is_path and _is_file_to_be(cast(str, target)))
        buffer = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile())) if spools else stream
        writer = CloudWriter(chosen.write(buffer, spec), spec)
        yield writer
        writer.finish()
        if spools:
            buffer.seek(0)
            shutil.copyfileobj(buffer, stream)


def _is_file_to_be(target: str | os.PathLike[str]) -> bool:
    """Whether ``atomic_write`` gives a file of its own, in which one can go back."""
    return os.fspath(target) != "-" and (os.path.isfile(target) or not os.path.exists(target))
