"""Decoding of a stream, with tiles or without, from byte ranges: part by part, whole or a box of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pccodec import container
from pccodec.codec.decoder import decode
from pccodec.codec.tile_stream import TileStream, header_of
from pccodec.codec.tiles import tile_voxels
from pccodec.errors import InputError
from pccodec.source import Source
from pccodec.voxels.grid import Grid
from pccodec.work import Workers


@dataclass(frozen=True)
class Box:
    """A box in the cloud's coordinates; its faces belong to it.

    Attributes:
        low, high: its corners.

    Raises:
        InputError: from the constructor, if it is not finite or empty.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.low) != 3 or len(self.high) != 3:
            raise InputError("a box has three lower and three upper coordinates")
        if not all(map(math.isfinite, (*self.low, *self.high))):
            raise InputError("a box has finite coordinates")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise InputError("the box is empty: a lower coordinate is above the upper one")

    def crop(self, points: np.ndarray) -> np.ndarray:
        """Those of the points (n, 3) that lie in the box."""
        inside = (points >= np.array(self.low)) & (points <= np.array(self.high))
        part: np.ndarray = points[inside.all(axis=1)]
        return part

    def voxels(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest voxel, int64 (3,), that can stand for a point in the box; both belong to it."""
        origin = np.array(grid.origin, dtype=np.float64)
        # One voxel of room for the rounding of the division.
        low = np.floor((np.array(self.low) - origin) / grid.scale) - 1
        high = np.ceil((np.array(self.high) - origin) / grid.scale) + 1
        limit = float(1 << grid.bits)
        return (np.clip(bound, -1, limit).astype(np.int64) for bound in (low, high))  # type: ignore[return-value]


def decode_parts(
    source: Source,
    *,
    box: Box | None = None,
    layers: int | None = None,
    max_bytes: int | None = None,
    strict: bool = False,
    workers: Workers | None = None,
) -> Iterator[np.ndarray]:
    """Points of a stream, one array (m, 3) a tile in the order of the tiles; at least one array.

    A stream without tiles gives one array. Of a stream of tiles only the bytes are read that are
    needed, and only a few tiles are in memory at a time.

    Args:
        source: the stream.
        box: leave out all points outside; of tiles that it does not touch nothing is read.
        layers: use only the first so many layers.
        max_bytes: use only the first so many bytes.
        strict: raise on damage instead of decoding up to the last intact level.
        workers: who decodes the tiles; the points are the same whoever does.

    Raises:
        StreamError: not a stream, or its header is damaged or missing.
        ModelError: the model that the stream needs is missing.
        DamagedError: the payload is damaged and ``strict`` is set.
    """
    crop = box.crop if box else _all
    if header_of(source).tiles is None:
        yield crop(decode(source.read(0, source.size), layers=layers, max_bytes=max_bytes, strict=strict))
        return
    stream = TileStream(source, layers=layers, max_bytes=max_bytes, strict=strict)
    selected: Sequence[int] | None = None
    if box and stream.tiles is not None:
        selected = stream.select(*box.voxels(stream.grid)).tolist()
    found = False
    for voxels in tile_voxels(stream, selected, workers):
        found = True
        yield crop(stream.grid.points(voxels))
    if not found:
        yield stream.grid.points(np.zeros(0, dtype=np.uint64))


def decode_region(
    source: Source,
    low: Sequence[float],
    high: Sequence[float],
    *,
    layers: int | None = None,
    max_bytes: int | None = None,
    strict: bool = False,
    workers: Workers | None = None,
) -> np.ndarray:
    """Points (m, 3) of a stream in a box, both corners included; :func:`decode_parts` in one array.

    Raises:
        InputError: the box is empty or not finite.
        StreamError, ModelError, DamagedError: as :func:`decode_parts`.
    """
    x, y, z = low
    right, back, top = high
    parts = decode_parts(
        source,
        box=Box((x, y, z), (right, back, top)),
        layers=layers,
        max_bytes=max_bytes,
        strict=strict,
        workers=workers,
    )
    return np.concatenate(list(parts))


def _all(points: np.ndarray) -> np.ndarray:
    return points
