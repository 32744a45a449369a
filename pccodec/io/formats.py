"""The table of formats, and how a format is told."""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pccodec.errors import InputError
from pccodec.io import arrays, las, pcd, ply, text
from pccodec.io.spec import CloudSpec, PointWriter

Reader = Callable[[BinaryIO], tuple[Iterable[np.ndarray], tuple[str, ...]]]
"""Takes a seekable stream, gives points in blocks (n, 3), and the names of what it skips."""

Writer = Callable[[BinaryIO, CloudSpec], PointWriter]
"""Starts to write a cloud to a stream."""


@dataclass(frozen=True)
class Format:
    """A format of clouds.

    Attributes:
        read: its reader.
        write: its writer.
        seeks: when its writer goes back in the stream.
        suffixes: of the names of its files.
        magic: how its files begin.
    """

    read: Reader
    write: Writer
    seeks: Callable[[CloudSpec], bool]
    suffixes: tuple[str, ...] = ()
    magic: bytes = b""


class _Collected:
    """A writer for formats that take all points at once: they are held in memory."""

    def __init__(
        self, stream: BinaryIO, spec: CloudSpec, write: Callable[[BinaryIO, np.ndarray, float], None]
    ) -> None:
        self._stream = stream
        self._tolerance = spec.tolerance
        self._write = write
        self._chunks: list[np.ndarray] = []

    def write(self, points: np.ndarray) -> None:
        """Keep points (n, 3)."""
        self._chunks.append(points)

    def finish(self, count: int) -> None:
        """Write them."""
        self._write(self._stream, concatenate(self._chunks), self._tolerance)


def _never(spec: CloudSpec) -> bool:
    return False


def _always(spec: CloudSpec) -> bool:
    return True


def _if_uncounted(spec: CloudSpec) -> bool:
    return spec.total is None


FORMATS = {
    "ply": Format(ply.read_ply, ply.PlyWriter, _if_uncounted, (".ply",), b"ply"),
    "ply-ascii": Format(ply.read_ply, partial(ply.PlyWriter, encoding="ascii"), _if_uncounted),
    "ply-be": Format(ply.read_ply, partial(ply.PlyWriter, encoding="binary_big_endian"), _if_uncounted),
    "pcd": Format(pcd.read_pcd, partial(_Collected, write=pcd.write_pcd), _never, (".pcd",), b"# .PCD"),
    "npy": Format(arrays.read_npy, arrays.NpyWriter, _if_uncounted, (".npy",), b"\x93NUMPY"),
    "npz": Format(
        arrays.read_npz, partial(_Collected, write=arrays.write_npz), _never, (".npz",), b"PK\x03\x04"
    ),
    "las": Format(las.read_las, las.LasWriter, _always, (".las",), b"LASF"),
    "laz": Format(las.read_las, partial(las.LasWriter, compress=True), _always, (".laz",)),
    "xyz": Format(text.read_text, text.TextWriter, _never, (".xyz", ".txt", ".asc", ".pts")),
    "csv": Format(text.read_text, partial(text.TextWriter, delimiter=","), _never, (".csv",)),
}

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
    return tuple(FORMATS)


def known(format: str) -> str:
    """The name of a format, if it is one.

    Raises:
        InputError: it is not.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    return format


def format_to_read(stream: BinaryIO, name: str) -> str:
    """The format by the suffix of the name, else by the first bytes of the stream.

    Raises:
        InputError: neither tells it.
    """
    start = stream.tell()
    magic = stream.read(8)
    stream.seek(start)
    if not magic:
        raise InputError(f"{name}: the file is empty")
    by_magic = (key for key, entry in FORMATS.items() if entry.magic and magic.startswith(entry.magic))
    found = format_of_suffix(name) or next(by_magic, None)
    if found is None:
        raise InputError(f"{name}: format not recognized, name one of {', '.join(FORMATS)}")
    return found


def format_to_write(target: str | os.PathLike[str]) -> str:
    """The format by the suffix of the name, PLY for standard output.

    Raises:
        InputError: the suffix does not tell it.
    """
    if os.fspath(target) == "-":
        return "ply"
    found = format_of_suffix(target)
    if found is None:
        raise InputError(f"{target}: no format known by this suffix, name one of {', '.join(FORMATS)}")
    return found


@contextmanager
def named_errors(name: str, format: str) -> Iterator[None]:
    """Turn what readers raise into one line that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except _MALFORMED as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: not a readable {format} file ({detail[:200]})") from error


def concatenate(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """All points (n, 3) of blocks, without a copy if there is only one."""
    arrays_ = list(blocks)
    if len(arrays_) == 1:
        return arrays_[0]
    return np.concatenate(arrays_) if arrays_ else np.empty((0, 3))


def format_of_suffix(path: str | os.PathLike[str]) -> str | None:
    """The format that a path's suffix names, or None."""
    suffix = Path(path).suffix.lower()
    return next((name for name, entry in FORMATS.items() if suffix in entry.suffixes), None)
