"""Reading and writing whole clouds: which format, which stream, and one clear error line."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import BinaryIO

from numpy.typing import ArrayLike

from pccodec.errors import InputError
from pccodec.io.append import Target, open_writer
from pccodec.io.cloud import PointCloud
from pccodec.io.formats import FORMATS, concatenate, format_to_read, known, named_errors
from pccodec.io.spec import CloudSpec

logger = logging.getLogger(__name__)

Source = str | os.PathLike[str] | BinaryIO

_NAMED = 6  # attributes that a warning names


def read(source: Source, format: str | None = None) -> PointCloud:
    """Read a cloud.

    Attributes other than the coordinates are skipped; a warning of the logger
    ``pccodec.io`` names them.

    Args:
        source: path, ``"-"`` for standard input, or a binary stream.
        format: one of ``format_names()``; None: by suffix, else by the first bytes.

    Raises:
        InputError: no such file, unknown format, malformed, no points, NaN or infinity.
        DependencyError: the format needs a package that is not installed.
    """
    if format is not None:
        known(format)
    if isinstance(source, (str, os.PathLike)) and os.fspath(source) != "-":
        try:
            with open(source, "rb") as stream:
                return _read_stream(stream, str(source), format)
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    if isinstance(source, (str, os.PathLike)):
        return _read_stream(sys.stdin.buffer, "standard input", format)
    return _read_stream(source, str(getattr(source, "name", "stream")), format)


def write(target: Target, points: ArrayLike, format: str | None = None, *, tolerance: float = 0.0) -> None:
    """Write a cloud; a file appears complete or not at all.

    Args:
        target: path, ``"-"`` for standard output, or a binary stream.
        points: (n, 3), n ≥ 1, any real dtype.
        format: one of ``format_names()``; None: by suffix, PLY for streams.
        tolerance: rounding error allowed in a coordinate. Within it coordinates are
            stored as float32 (or fewer decimals), beyond it as float64. LAS has integers of
            32 bits an axis: it takes a decimal step within the tolerance, or the finest that fits.

    Raises:
        InputError: unknown format, unusable points, or the target cannot be written.
        DependencyError: the format needs a package that is not installed.
    """
    array = PointCloud.of(points).points
    with open_writer(target, CloudSpec.of(array, tolerance), format) as writer:
        writer.write(array)


def warn_of_skipped(name: str, skipped: tuple[str, ...]) -> None:
    """Say which attributes of a file are not read."""
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        logger.warning("%s: attributes skipped: %s%s", name, ", ".join(skipped[:_NAMED]), more)


def _read_stream(stream: BinaryIO, name: str, format: str | None) -> PointCloud:
    if not stream.seekable():
        stream = io.BytesIO(stream.read())
    if format is None:
        format = format_to_read(stream, name)
    with named_errors(name, format):
        blocks, skipped = FORMATS[format].read(stream)
        cloud = PointCloud.of(concatenate(blocks), skipped)
    warn_of_skipped(name, skipped)
    return cloud
