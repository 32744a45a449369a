"""Directories of the layers that are coded tile by tile: where each tile's payload lies.

A directory stands in front of the payloads of its layer, which follow in the order of the tiles:

    width of a length, and 128 if shares follow (1 byte)
    with shares, per count: lowest share + 31, width of a share (2 bytes)
    bits: all lengths, then the shares count by count, most significant bit first, padded with zeros
    one check byte a tile

The shares say how far a tile's counts are from its part of the whole cloud's (``codec.tile_counts``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from pccodec.errors import StreamError

MAX_WIDTH = 48
"""Most bits of a length; a share has at most 8."""

SHARE_LOW, SHARE_HIGH = -31, 224
"""Range of a share."""

_SHARE_WIDTH = 8
_SHARED = 128


@dataclass(frozen=True)
class Directory:
    """The directory of one layer.

    Attributes:
        lengths: bytes of each tile's payload.
        checks: check value of each tile's layer, 0…255.
        shares: first tile layer only: for each count that the header has below the shared levels,
            coarse to fine, one number SHARE_LOW…SHARE_HIGH a tile. Empty in other layers.
    """

    lengths: tuple[int, ...]
    checks: tuple[int, ...]
    shares: tuple[tuple[int, ...], ...] = ()

    def pack(self) -> bytes:
        """The directory's bytes."""
        width = max(self.lengths).bit_length()
        shares = self.shares if any(map(any, self.shares)) else ()
        head, fields = [width | (_SHARED if shares else 0)], [_bits(self.lengths, width)]
        for row in shares:
            low = min(row)
            span = (max(row) - low).bit_length()
            head += [low - SHARE_LOW, span]
            fields.append(_bits([share - low for share in row], span))
        bits = "".join(fields)
        padded = bits + "0" * (-len(bits) % 8)
        packed = int(padded or "0", 2).to_bytes(len(padded) // 8, "big")
        return bytes(head) + packed + bytes(self.checks)

    @property
    def ends(self) -> list[int]:
        """End of each tile's payload, counted from the end of the directory."""
        return list(accumulate(self.lengths))


def max_directory_size(tiles: int, rows: int, length: int) -> int:
    """Bytes within which the directory of a layer of ``length`` bytes ends."""
    width = max(length.bit_length(), 1)
    return 1 + 2 * rows + (tiles * (width + _SHARE_WIDTH * rows) + 7) // 8 + tiles


def parse_directory(data: bytes, tiles: int, rows: int, length: int) -> tuple[Directory, int]:
    """The directory at the beginning of a layer, and its size.

    Args:
        data: the layer, or its first bytes.
        tiles: number of tiles, at least one.
        rows: counts whose shares the directory holds.
        length: bytes of the whole layer, directory and all payloads.

    Raises:
        StreamError: the directory is cut, or it does not fit the layer.
    """
    has_shares = bool(data) and data[0] >= _SHARED
    head = 1 + 2 * rows if has_shares else 1
    if len(data) < head:
        raise StreamError("its directory is cut short")
    width, lows, spans = data[0] % _SHARED, data[1:head:2], data[2:head:2]
    if width > MAX_WIDTH or (has_shares and not rows) or any(span > _SHARE_WIDTH for span in spans):
        raise StreamError("its directory is damaged")
    size = (tiles * (width + sum(spans)) + 7) // 8
    end = head + size + tiles
    if len(data) < end:
        raise StreamError("its directory is cut short")
    bits = f"{int.from_bytes(data[head : head + size], 'big'):0{8 * size}b}"
    lengths = _numbers(bits[: tiles * width], width, tiles)
    shares: list[tuple[int, ...]] = [] if has_shares else rows * [(0,) * tiles]
    at = tiles * width
    for low, span in zip(lows, spans, strict=True):
        row = _numbers(bits[at : at + tiles * span], span, tiles)
        shares.append(tuple(low + SHARE_LOW + share for share in row))
        at += tiles * span
    if sum(lengths) != length - end or any(max(row) > SHARE_HIGH for row in shares):
        raise StreamError("its directory is damaged")
    return Directory(tuple(lengths), tuple(data[head + size : end]), tuple(shares)), end


def _bits(numbers: tuple[int, ...] | list[int], width: int) -> str:
    return "".join(f"{number:0{width}b}" for number in numbers) if width else ""


def _numbers(bits: str, width: int, count: int) -> list[int]:
    if width == 0:
        return [0] * count
    return [int(bits[start : start + width], 2) for start in range(0, count * width, width)]
