"""LAS and LAZ files through laspy, an optional dependency."""

from __future__ import annotations

import io
import math
import struct
from types import ModuleType
from typing import BinaryIO

import numpy as np

from pccodec.errors import DependencyError, InputError
from pccodec.io.cloud import bounds

_HEADER_1_4 = 375  # bytes of the header in version 1.4, the longest

_RECORD = 54  # bytes of the shortest variable length record

_POINTS_A_BYTE = 10_000  # LAZ cannot do better: every chunk of 50,000 points starts with a full point


def read_las(stream: BinaryIO) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scaled coordinates float64 (n, 3), and the names of the dimensions skipped.

    Raises:
        DependencyError: laspy, or the package that decompresses LAZ, is missing.
        InputError: laspy cannot read the file.
    """
    laspy = _laspy()
    _check_counts(stream)
    try:
        cloud = laspy.read(stream, closefd=False)
    except laspy.errors.LaspyException as error:
        raise _as_ours(error) from error
    skipped = (name for name in cloud.point_format.dimension_names if name not in "XYZ")
    return np.stack([cloud.x, cloud.y, cloud.z], axis=1), tuple(skipped)


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


def write_las(stream: BinaryIO, points: np.ndarray, tolerance: float, compress: bool = False) -> None:
    """Write points (n, 3) at the finest power of ten a step that fits 32 bits an axis.

    That step is below 1e-9 of the extent, so ``tolerance`` is not needed.

    Raises:
        DependencyError: laspy, or the package that compresses LAZ, is missing.
    """
    laspy = _laspy()
    low, high = bounds(points)
    extent = float(max(high - low))
    header = laspy.LasHeader(point_format=0, version="1.2")
    # Whole offsets keep decimal coordinates decimal.
    header.offsets = np.floor(low.astype(np.float64))
    # Integers keep their unit; else nine digits at most, fewer for large extents (31 bits hold 2.1e9).
    is_integer = points.dtype.kind == "i" and extent < 2**31 - 1
    step = 1.0 if is_integer else float(f"1e{max(-9, math.ceil(math.log10((extent + 1) / (2**31 - 2))))}")
    header.scales = np.full(3, step)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.astype(np.float64).T
    # laspy goes back to its header at the end, which a pipe cannot.
    buffer = io.BytesIO()
    try:
        cloud.write(buffer, do_compress=compress)
    except laspy.errors.LaspyException as error:
        raise _as_ours(error) from error
    stream.write(buffer.getvalue())


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
