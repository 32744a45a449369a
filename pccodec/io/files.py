"""Reading and writing clouds: which format, which stream, and one clear error line."""

from __future__ import annotations

import io
import logging
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from pccodec.errors import InputError
from pccodec.io import arrays, las, pcd, ply, text
from pccodec.io.atomic import atomic_write
from pccodec.io.cloud import PointCloud

logger = logging.getLogger(__name__)

Source = str | os.PathLike[str] | BinaryIO

Reader = Callable[[BinaryIO], tuple[np.ndarray, tuple[str, ...]]]
"""Takes a seekable stream, gives points (n, 3) and the names of what it skipped."""

Writer = Callable[[BinaryIO, np.ndarray, float], None]
"""Takes a stream, points (n, 3) and the rounding error allowed (0: exact)."""


@dataclass(frozen=True)
class _Format:
    read: Reader
    write: Writer
    suffixes: tuple[str, ...] = ()
    magic: bytes = b""


_FORMATS = {
    "ply": _Format(ply.read_ply, ply.write_ply, (".ply",), b"ply"),
    "ply-ascii": _Format(ply.read_ply, partial(ply.write_ply, encoding="ascii")),
    "ply-be": _Format(ply.read_ply, partial(ply.write_ply, encoding="binary_big_endian")),
    "pcd": _Format(pcd.read_pcd, pcd.write_pcd, (".pcd",), b"# .PCD"),
    "npy": _Format(arrays.read_npy, arrays.write_npy, (".npy",), b"\x93NUMPY"),
    "npz": _Format(arrays.read_npz, arrays.write_npz, (".npz",), b"PK\x03\x04"),
    "las": _Format(las.read_las, las.write_las, (".las",), b"LASF"),
    "laz": _Format(las.read_las, partial(las.write_las, compress=True), (".laz",)),
    "xyz": _Format(text.read_text, text.write_text, (".xyz", ".txt", ".asc", ".pts")),
    "csv": _Format(text.read_text, partial(text.write_text, delimiter=","), (".csv",)),
}

_NAMED = 6  # attributes that a warning names

# What the readers and numpy raise on files that are cut short or malformed.
_MALFORMED = (
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    RuntimeError,
)


def format_names() -> tuple[str, ...]:
    """Names that ``read`` and ``write`` take as ``format``."""
    return tuple(_FORMATS)


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
        _known(format)
    if isinstance(source, (str, os.PathLike)) and os.fspath(source) != "-":
        try:
            with open(source, "rb") as stream:
                return _read_stream(stream, str(source), format)
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    if isinstance(source, (str, os.PathLike)):
        return _read_stream(sys.stdin.buffer, "standard input", format)
    return _read_stream(source, str(getattr(source, "name", "stream")), format)


def write(target: Source, points: ArrayLike, format: str | None = None, *, tolerance: float = 0.0) -> None:
    """Write a cloud; a file appears complete or not at all.

    Args:
        target: path, ``"-"`` for standard output, or a binary stream.
        points: (n, 3), n ≥ 1, any real dtype.
        format: one of ``format_names()``; None: by suffix, PLY for streams.
        tolerance: rounding error allowed in a coordinate. Within it coordinates are
            stored as float32 (or fewer decimals), beyond it as float64. LAS has
            integers of 32 bits an axis and takes the finest decimal step that fits.

    Raises:
        InputError: unknown format, unusable points, or the target cannot be written.
        DependencyError: the format needs a package that is not installed.
    """
    array = PointCloud.of(points).points
    if isinstance(target, (str, os.PathLike)):
        writer = _FORMATS[_known(format or _format_to_write(target))].write
        with atomic_write(target) as stream:
            writer(stream, array, tolerance)
    else:
        _FORMATS[_known(format or "ply")].write(target, array, tolerance)


def _read_stream(stream: BinaryIO, name: str, format: str | None) -> PointCloud:
    if not stream.seekable():
        stream = io.BytesIO(stream.read())
    if format is None:
        format = _format_to_read(stream, name)
    try:
        points, skipped = _FORMATS[format].read(stream)
        cloud = PointCloud.of(points, skipped)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except _MALFORMED as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: not a readable {format} file ({detail[:200]})") from error
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        logger.warning("%s: attributes skipped: %s%s", name, ", ".join(skipped[:_NAMED]), more)
    return cloud


def _known(format: str) -> str:
    if format not in _FORMATS:
        raise InputError(f"unknown format {format!r}: one of {', '.join(_FORMATS)}")
    return format


def _format_of_suffix(path: str | os.PathLike[str]) -> str | None:
    suffix = Path(path).suffix.lower()
    return next((name for name, entry in _FORMATS.items() if suffix in entry.suffixes), None)


def _format_to_read(stream: BinaryIO, name: str) -> str:
    start = stream.tell()
    magic = stream.read(8)
    stream.seek(start)
    if not magic:
        raise InputError(f"{name}: the file is empty")
    by_magic = (key for key, entry in _FORMATS.items() if entry.magic and magic.startswith(entry.magic))
    found = _format_of_suffix(name) or next(by_magic, None)
    if found is None:
        raise InputError(f"{name}: format not recognized, name one of {', '.join(_FORMATS)}")
    return found


def _format_to_write(target: str | os.PathLike[str]) -> str:
    if os.fspath(target) == "-":
        return "ply"
    found = _format_of_suffix(target)
    if found is None:
        raise InputError(f"{target}: no format known by this suffix, name one of {', '.join(_FORMATS)}")
    return found
