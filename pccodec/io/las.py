"""LAS and LAZ files through laspy, an optional dependency."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from pccodec.errors import DependencyError, InputError
from pccodec.io.spec import CloudSpec

_HEADER_1_4 = 375  # bytes of the header in version 1.4, the longest

_RECORD = 54  # bytes of the shortest variable length record

_BLOCK = 1 << 20

_MOST_1_2 = 2**32 - 1  # points of a file of version 1.2

_POINTS_A_BYTE = 10_000  # LAZ cannot do better: every chunk of 50,000 points starts with a full point


def read_las(stream: BinaryIO) -> tuple[Iterable[np.ndarray], tuple[str, ...]]:
    """Scaled coordinates, float64 in blocks (n, 3), and the names of the dimensions skipped.

    Raises:
        DependencyError: laspy, or the package that decompresses LAZ, is missing.
        InputError: laspy cannot read the file; also while the blocks are read.
    """
    laspy = _laspy()
    _check_counts(stream)
    # Colours and times of the newer point formats need not even be decompressed.
    needed = laspy.DecompressionSelection.XY_RETURNS_CHANNEL | laspy.DecompressionSelection.Z
    try:
        reader = laspy.open(stream, closefd=False, decompression_selection=needed)
    except laspy.errors.LaspyException as error:
        raise _as_ours(error) from error
    names = reader.header.point_format.dimension_names
    return _blocks(reader, laspy.errors.LaspyException), tuple(name for name in names if name not in "XYZ")


def _blocks(reader: Any, failure: type[Exception]) -> Iterator[np.ndarray]:
    try:
        for block in reader.chunk_iterator(_BLOCK):
            points = np.empty((len(block), 3))
            for axis, name in enumerate("xyz"):
                points[:, axis] = block[name]
            yield points
    except failure as error:
        raise _as_ours(error) from error


def _check_counts(stream: BinaryIO) -> None:
    """Refuse a header whose counts cannot be true: laspy would loop or allocate for them."""
    start = stream.tell()
    size = stream.seek(0, io.SEEK_END) - start
    stream.seek(start)
    header = stream.read(_HEADER_1_4).ljust(_HEADER_1_4, b"\0")
    stream.seek(start)
    if header[:4] != b"LASF":
        raise InputError("not a LAS file")
    # Offsets 96 to 110 are the same in all versions; 1.4 adds long counts from 235 on.
    first_point, records, format, length, points = struct.unpack_from("<IIBHI", header, 96)
    extended_records = 0
    if header[25] >= 4:
        extended_records, points = struct.unpack_from("<IQ", header, 243)
    is_compressed = format >= 0x80
    fits = points <= size * _POINTS_A_BYTE if is_compressed else first_point + points * length <= size
    if not fits or records * _RECORD > size or extended_records * _RECORD > size:
        raise InputError("the file ends early, or its header is damaged")


class LasWriter:
    """Coordinates as multiples of a power of ten.

    It is the coarsest within the tolerance, or the finest that fits 32 bits an axis, which
    is below 1e-9 of the extent.

    Raises:
        DependencyError: laspy, or the package that compresses LAZ, is missing.
    """

    def __init__(self, stream: BinaryIO, spec: CloudSpec, compress: bool = False) -> None:
        self._laspy = _laspy()
        extent = float(max(spec.high - spec.low))
        is_small = spec.total is not None and spec.total <= _MOST_1_2
        format, version = (0, "1.2") if is_small else (6, "1.4")
        header = self._laspy.LasHeader(point_format=format, version=version)
        # Whole offsets keep decimal coordinates decimal.
        header.offsets = np.floor(spec.low.astype(np.float64))
        # Integers keep their unit; else nine digits at most, fewer for large extents (31 bits hold 2.1e9).
        is_integer = spec.is_integer and extent < 2**31 - 1
        step = max(-9, math.ceil(math.log10((extent + 1) / (2**31 - 2))))
        if spec.tolerance > 0:
            step = max(step, math.floor(math.log10(2 * spec.tolerance)))
        header.scales = np.full(3, 1.0 if is_integer else float(f"1e{step}"))
        try:
            self._writer = self._laspy.open(stream, "w", header=header, do_compress=compress, closefd=False)
        except self._laspy.errors.LaspyException as error:
            raise _as_ours(error) from error

    def write(self, points: np.ndarray) -> None:
        """Append points (n, 3)."""
        record = self._laspy.ScaleAwarePointRecord.zeros(len(points), header=self._writer.header)
        for axis, name in enumerate("xyz"):
            record[name] = points[:, axis].astype(np.float64)
        self._writer.write_points(record)

    def finish(self, count: int) -> None:
        """Complete the header."""
        self._writer.close()


def _laspy() -> ModuleType:
    try:
        import laspy
    except ImportError as error:
        raise DependencyError("LAS and LAZ files need laspy: pip install 'pccodec[las]'") from error
    module: ModuleType = laspy
    return module


def _as_ours(error: Exception) -> DependencyError | InputError:
    if "backend" in str(error).lower():
        return DependencyError("LAZ files need laspy with lazrs: pip install 'pccodec[las]'")
    return InputError(f"laspy cannot read it: {' '.join(str(error).split())}")
