"""The header in front of a stream and the table behind its base layer, packed and parsed.

docs/format.md has them byte by byte.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pccodec.container.bits import BitReader, BitWriter, LengthCoder, read_near, write_near
from pccodec.container.layout import (
    ALL_MILESTONES,
    FORMAT_VERSION,
    MILESTONE_LEVELS,
    MIN_SHARED,
    RANK_LEVELS,
    Header,
    TileLevels,
)
from pccodec.errors import CutHeaderError, StreamError

MAGIC = b"\xcfP"
_FIXED = len(MAGIC) + 1 + 8  # magic, version, model id
MAX_HEADER = 2048
"""More bytes than any valid header takes."""
MAX_TABLE = 512
"""More bytes than any valid table takes."""

_GRID_ZERO, _GRID_INTEGER, _GRID_FLOAT = 0, 1, 2
_INTEGER_GRID = struct.Struct("<3q")
_FLOAT_GRID = struct.Struct("<4d")


@dataclass(frozen=True)
class Announced:
    """Consecutive layers as the header or the table announces them.

    Attributes:
        lengths: bytes of each layer, in order.
        checks: check values of their geometry layers, by level.
        size: bytes of the header or table.
    """

    lengths: tuple[int, ...]
    checks: dict[int, int]
    size: int


def pack_header(header: Header, lengths: Sequence[int], checks: Mapping[int, int]) -> bytes:
    """The header's bytes, checksum included.

    Args:
        header: what it says.
        lengths: bytes of all layers, in order (not checked); those that the header does not announce
            may be missing.
        checks: check values by level, of the geometry layers that the header announces.
    """
    fields = BitWriter()
    fields.write(header.tiles is not None, 1)
    fields.write(0, 2)  # reserved flags
    fields.write(_grid_mode(header), 2)
    fields.write(header.depth, 5)
    if header.tiles:
        fields.write_unary(header.depth - header.tiles.tile)
        fields.write_unary(header.tiles.shared - MIN_SHARED)
    else:
        fields.write(any(header.ranks), 1)
    for level, count in zip(RANK_LEVELS, header.ranks, strict=True):
        if level < header.depth and any(header.ranks):
            fields.write(count, 4)
    for level, mask in zip(MILESTONE_LEVELS, header.milestones, strict=True):
        if level < header.depth:
            fields.write(mask == ALL_MILESTONES, 1)
            if mask != ALL_MILESTONES:
                fields.write(mask, 7)
    fields.write(header.surplus > 0, 1)
    if header.surplus:
        fields.write(header.surplus, 4)
    _write_counts(fields, header)
    coder = LengthCoder()
    for spec, length in zip(header.layers[: header.announced], lengths, strict=False):
        coder.write(fields, length, spec.rank)
    head = b"".join(
        (
            MAGIC,
            bytes([FORMAT_VERSION]),
            header.model_id,
            fields.finish(),
            _pack_grid(header),
            bytes(checks[level] for level in _checks_in_front(header)),
        )
    )
    return head + _crc(head)


def pack_table(header: Header, lengths: Sequence[int], checks: Mapping[int, int]) -> bytes:
    """The table of the layers that the header does not announce.

    Args:
        header: of the stream.
        lengths: bytes of all layers, in order.
        checks: check values by level, of the geometry layers that the table announces.
    """
    coder, fields, specs = _past_front(header, lengths), BitWriter(), header.layers[header.announced :]
    for spec, length in zip(specs, lengths[header.announced :], strict=True):
        coder.write(fields, length, spec.rank)
    table = fields.finish() + bytes(checks[level] for level in _checks_behind(header))
    return table + _crc(table)


def parse_header(data: bytes) -> tuple[Header, Announced]:
    """The header at the beginning of ``data``, and the layers that it announces.

    Raises:
        CutHeaderError: the data ends before the header does, as far as it can be read.
        StreamError: not a stream, another format, a damaged header, or claims that cannot be true.
    """
    _check_magic(data)
    reader = BitReader(data[_FIXED:])
    tiled, reserved = reader.read(1), reader.read(2)
    if reserved:
        raise StreamError("written by a newer format, unknown flags in the header")
    grid_mode = reader.read(2)
    depth = reader.read(5)
    tiles = None
    if tiled:
        tiles = TileLevels(tile=depth - reader.read_unary(), shared=MIN_SHARED + reader.read_unary())
    ranked = not tiled and reader.read(1)
    k3, k2, k1 = (reader.read(4) if ranked and level < depth else 0 for level in RANK_LEVELS)
    milestones = [_read_milestones(reader) if level < depth else 0 for level in MILESTONE_LEVELS]
    header = Header(
        depth=depth,
        surplus=reader.read(4) if reader.read(1) else 0,
        counts=_read_counts(reader, depth),
        ranks=(k3, k2, k1),
        model_id=data[_FIXED - 8 : _FIXED],
        tiles=tiles,
        milestones=(milestones[0], milestones[1], milestones[2]),
    )
    coder = LengthCoder()
    lengths = tuple(coder.read(reader, spec.rank) for spec in header.layers[: header.announced])
    grid_start = _FIXED + reader.bytes_read
    checks_start = grid_start + (0, _INTEGER_GRID.size, _FLOAT_GRID.size, 0)[grid_mode]
    levels = _checks_in_front(header)
    end = checks_start + len(levels)
    if len(data) < end + 2:
        raise CutHeaderError("the stream header is cut short or damaged")
    if data[end : end + 2] != _crc(data[:end]):
        raise StreamError("the stream header is damaged: its checksum does not match")
    origin, scale = _unpack_grid(grid_mode, data[grid_start:checks_start])
    header = replace(header, origin=origin, scale=scale, is_integer=grid_mode != _GRID_FLOAT)
    checks = dict(zip(levels, data[checks_start:end], strict=True))
    return header, Announced(lengths, checks, end + 2)


def parse_table(header: Header, front: Announced, data: bytes) -> Announced:
    """The table at the beginning of ``data``.

    Args:
        header: of the stream.
        front: what the header announces.
        data: the stream from the end of the base layer on.

    Raises:
        CutHeaderError: the data ends before the table does, as far as it can be read.
        StreamError: it is damaged.
    """
    coder, reader = _past_front(header, front.lengths), BitReader(data)
    lengths = tuple(coder.read(reader, spec.rank) for spec in header.layers[header.announced :])
    levels = _checks_behind(header)
    start = reader.bytes_read
    end = start + len(levels)
    if len(data) < end + 2:
        raise CutHeaderError("the table is cut short")
    if data[end : end + 2] != _crc(data[:end]):
        raise StreamError("its checksum does not match")
    return Announced(lengths, dict(zip(levels, data[start:end], strict=True)), end + 2)


def _past_front(header: Header, lengths: Sequence[int]) -> LengthCoder:
    """The coder of lengths behind those of the layers that the header announces."""
    coder = LengthCoder()
    for spec, length in zip(header.layers[: header.announced], lengths, strict=False):
        coder.follow(length, spec.rank)
    return coder


def _checks_in_front(header: Header) -> list[int]:
    announced = {spec.level for spec in header.layers[: header.announced]}
    return [level for level in header.checked if level in announced]


def _checks_behind(header: Header) -> list[int]:
    return [level for level in header.checked if level not in _checks_in_front(header)]


def _crc(head: bytes) -> bytes:
    # CRC-16 (polynomial 0x1021, start 0xFFFF): finds every burst of up to 16 bits.
    return binascii.crc_hqx(head, 0xFFFF).to_bytes(2, "little")


def _check_magic(data: bytes) -> None:
    if not data:
        raise CutHeaderError("not a pccodec stream")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise StreamError("not a pccodec stream")
    if len(data) <= len(MAGIC):
        raise CutHeaderError("the stream header is cut short")
    version = data[len(MAGIC)]
    if version > FORMAT_VERSION:
        raise StreamError(f"written by a newer format: version {version}, this is {FORMAT_VERSION}")
    if version < FORMAT_VERSION:
        raise StreamError(f"format version {version} is not supported: this is {FORMAT_VERSION}, encode anew")
    if len(data) < _FIXED:
        raise CutHeaderError("the stream header is cut short")


def _write_counts(fields: BitWriter, header: Header) -> None:
    above = header.counts[-1]
    width = above.bit_length()
    fields.write(width - 1, _width_bits(header.depth))
    fields.write(above - (1 << width - 1), width - 1)
    expected = 3 * above
    for count in header.counts[-2::-1]:
        growth = count - above
        write_near(fields, growth, expected, _growth_width(above))
        expected, above = count * growth // above, count


def _read_milestones(reader: BitReader) -> int:
    return ALL_MILESTONES if reader.read(1) else reader.read(7)


def _read_counts(reader: BitReader, depth: int) -> tuple[int, ...]:
    if depth == 0:
        raise StreamError("the stream header is damaged")
    width = reader.read(_width_bits(depth))
    above = 1 << width | reader.read(width)
    counts = [above]
    # A surface has four children a node, and grows as it did at the level above.
    expected = 3 * above
    for _ in range(min(4, depth) - 1):
        growth = read_near(reader, expected, _growth_width(above))
        count = above + growth
        if not 0 <= growth <= 7 * above:
            raise StreamError(f"{count} nodes cannot stand under {above}")
        expected, above = count * growth // above, count
        counts.append(count)
    return tuple(reversed(counts))


def _growth_width(above: int) -> int:
    """Bits that the growth of a level is expected to differ by from what the level above predicts."""
    return max(0, above.bit_length() - 4)


def _width_bits(depth: int) -> int:
    """Bits of the field that holds log2 of the coarsest count, rounded down."""
    coarsest = min(4, depth) - 1
    return (3 * (depth - coarsest)).bit_length()


def _grid_mode(header: Header) -> int:
    if not header.is_integer:
        return _GRID_FLOAT
    return _GRID_INTEGER if any(header.origin) else _GRID_ZERO


def _pack_grid(header: Header) -> bytes:
    mode = _grid_mode(header)
    if mode == _GRID_FLOAT:
        return _FLOAT_GRID.pack(*header.origin, header.scale)
    if mode == _GRID_ZERO:
        return b""
    try:
        return _INTEGER_GRID.pack(*map(int, header.origin))
    except struct.error:
        raise StreamError(f"the grid's origin {header.origin} does not fit 64 bits") from None


def _unpack_grid(mode: int, data: bytes) -> tuple[tuple[float, float, float], float]:
    if mode == _GRID_ZERO:
        return (0, 0, 0), 1.0
    if mode == _GRID_INTEGER:
        return _INTEGER_GRID.unpack(data), 1.0
    if mode == _GRID_FLOAT:
        x, y, z, scale = _FLOAT_GRID.unpack(data)
        return (x, y, z), scale
    raise StreamError("written by a newer format, unknown kind of grid")
