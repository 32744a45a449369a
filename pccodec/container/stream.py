"""Packing, parsing and cutting streams. The byte layout is documented in docs/format.md."""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pccodec.container.bits import BitReader, BitWriter, LengthCoder
from pccodec.container.layout import (
    ALL_MILESTONES,
    FORMAT_VERSION,
    MILESTONE_LEVELS,
    MIN_SHARED,
    POINT_FLOOR,
    POINTS_PER_BYTE,
    RANK_LEVELS,
    Header,
    LayerSpec,
    TileLevels,
    layer_specs,
    node_budget,
    point_budget,
)
from pccodec.errors import CutHeaderError, StreamError
from pccodec.source import BytesSource, Source

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAGIC = b"\xcfP"
_FIXED = len(MAGIC) + 1 + 8  # magic, version, model id
MAX_HEADER = 2048
"""More bytes than any valid header takes."""

_GRID_ZERO, _GRID_INTEGER, _GRID_FLOAT = 0, 1, 2
_INTEGER_GRID = struct.Struct("<3q")
_FLOAT_GRID = struct.Struct("<4d")


@dataclass(frozen=True)
class Layer:
    """One layer as it arrived. Its bytes stay where they are until they are asked for.

    Attributes:
        spec: which layer it is.
        offset: position of its first byte in the stream.
        length: bytes that the header declares.
        arrived: bytes of it that the source has, ``length`` or fewer.
        source: the stream.
    """

    spec: LayerSpec
    offset: int
    length: int
    arrived: int
    source: Source = field(repr=False, compare=False)

    @property
    def complete(self) -> bool:
        """All declared bytes arrived (true of an empty layer even after a cut)."""
        return self.arrived == self.length

    @property
    def data(self) -> bytes:
        """The ``arrived`` bytes, read anew each time."""
        return self.source.read(self.offset, self.offset + self.arrived)


@dataclass(frozen=True)
class Stream:
    """A parsed stream, whole or cut.

    Attributes:
        header: the verified header.
        layers: all declared layers, in order; those after a cut have no bytes.
        header_size: bytes before the first layer.
        size: bytes of the whole stream as declared.
        trailing: bytes after the declared end; they are no part of the stream.
    """

    header: Header
    layers: tuple[Layer, ...]
    header_size: int
    size: int
    trailing: int

    @property
    def complete(self) -> bool:
        """All bytes of all layers arrived."""
        return all(layer.complete for layer in self.layers)

    @property
    def payload_arrived(self) -> int:
        """Bytes of layers that arrived."""
        return sum(layer.arrived for layer in self.layers)

    def node_budget(self, finest: int) -> int:
        """Nodes of a level that may be predicted below the finest intact level (``layout.node_budget``).

        The bytes that lead to that level count, and those of the next layer, which is cut or damaged.
        """
        read = (layer.arrived for layer in self.layers if layer.spec.level >= finest - 1)
        return node_budget(sum(read))


def level_check(*symbols: Buffer) -> int:
    """Check value of a geometry layer, 0…255: the low byte of a CRC-32.

    Args:
        symbols: contiguous buffers in stream order: the decoded symbols of the ranks
            between the geometry layer before and this one (little-endian, a fixed
            integer type), then this layer's decoded occupancy bytes.
    """
    crc = 0
    for buffer in symbols:
        crc = zlib.crc32(buffer, crc)
    return crc & 0xFF


def pack(header: Header, payloads: Sequence[bytes]) -> bytes:
    """The stream of a header and its layers' payloads.

    Zero bytes are appended to the last layer if the cloud has more points than
    ``point_budget`` allows for its payload; range-coded data reads as if zeros followed
    its end, so they change nothing.

    Raises:
        StreamError: the payloads do not fit the header.
    """
    specs = header.layers
    if len(payloads) != len(specs):
        raise StreamError(f"{len(payloads)} payloads for {len(specs)} layers")
    for spec, payload in zip(specs, payloads, strict=True):
        if len(payload) > header.max_length(spec):
            raise StreamError(f"layer {spec.name} is too long: {len(payload)} bytes")
    payloads = list(payloads)
    missing = header.counts[0] - point_budget(sum(map(len, payloads)))
    if missing > 0:
        payloads[-1] += bytes(-(-missing // POINTS_PER_BYTE))
    return b"".join((pack_header(header, [len(payload) for payload in payloads]), *payloads))


def pack_header(header: Header, lengths: Sequence[int]) -> bytes:
    """The header's bytes, checksum included, for layers of the given lengths (not checked)."""
    fields = BitWriter()
    fields.write(header.tiles is not None, 1)
    fields.write(0, 2)  # reserved flags
    fields.write(_grid_mode(header), 2)
    fields.write(header.depth, 5)
    if header.tiles:
        fields.write_unary(header.depth - header.tiles.tile)
        fields.write_unary(header.tiles.shared - MIN_SHARED)
    for level, count in zip(RANK_LEVELS, header.ranks, strict=True):
        if level < header.depth:
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
    for spec, length in zip(header.layers, lengths, strict=True):
        coder.write(fields, length, spec.rank)
    head = b"".join(
        (
            MAGIC,
            bytes([FORMAT_VERSION]),
            header.model_id,
            fields.finish(),
            _pack_grid(header),
            bytes(header.checks),
        )
    )
    return head + _header_crc(head)


def parse(data: Buffer) -> Stream:
    """``parse_source`` of bytes."""
    return parse_source(BytesSource(bytes(data)))


def parse_source(source: Source) -> Stream:
    """The header and layers of a stream or of any prefix that holds the header.

    Reads the header's bytes only, two kilobytes at most; the layers read theirs when asked.
    Nothing is allocated on the header's word; all its claims are within the limits of
    ``Header`` and ``point_budget`` when this returns.

    Raises:
        CutHeaderError: the data ends before the header does, as far as it can be read.
        StreamError: not a stream, a newer format, a damaged header, or a header
            whose claims cannot be true.
    """
    data = source.read(0, MAX_HEADER)
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
    k3, k2, k1 = (reader.read(4) if level < depth else 0 for level in RANK_LEVELS)
    milestones = [_read_milestones(reader) if level < depth else 0 for level in MILESTONE_LEVELS]
    surplus = reader.read(4) if reader.read(1) else 0
    counts = _read_counts(reader, depth)
    coder = LengthCoder()
    specs = layer_specs(depth, (k3, k2, k1))
    lengths = [coder.read(reader, spec.rank) for spec in specs]
    grid_start = _FIXED + reader.bytes_read
    checks_start = grid_start + (0, _INTEGER_GRID.size, _FLOAT_GRID.size, 0)[grid_mode]
    end = checks_start + depth
    if len(data) < end + 2:
        raise CutHeaderError("the stream header is cut short or damaged")
    if data[end : end + 2] != _header_crc(data[:end]):
        raise StreamError("the stream header is damaged: its checksum does not match")
    origin, scale = _unpack_grid(grid_mode, data[grid_start:checks_start])
    header = Header(
        depth=depth,
        counts=counts,
        checks=tuple(data[checks_start:end]),
        ranks=(k3, k2, k1),
        model_id=data[_FIXED - 8 : _FIXED],
        origin=origin,
        scale=scale,
        is_integer=grid_mode != _GRID_FLOAT,
        tiles=tiles,
        milestones=(milestones[0], milestones[1], milestones[2]),
        surplus=surplus,
    )
    return _layers(source, header, lengths, end + 2)


def truncate(data: Buffer, *, max_bytes: int | None = None, layers: int | None = None) -> bytes:
    """The first bytes of a stream, which are a valid stream themselves.

    Args:
        data: a stream, whole or cut before.
        max_bytes: keep at most this many bytes, header included.
        layers: keep the first so many whole layers (0: the header alone).

    Raises:
        StreamError: ``data`` is no stream, or ``max_bytes`` does not hold its header.
        ValueError: not exactly one of the limits is given, or it is negative.
    """
    data = bytes(data)
    return data[: prefix_size(parse(data), max_bytes=max_bytes, layers=layers)]


def prefix_size(stream: Stream, *, max_bytes: int | None = None, layers: int | None = None) -> int:
    """Bytes of a prefix as in ``truncate``; a stream that was cut before may have fewer.

    Raises:
        StreamError: ``max_bytes`` does not hold the header.
        ValueError: not exactly one of the limits is given, or it is negative.
    """
    if (max_bytes is None) == (layers is None):
        raise ValueError("give one of max_bytes and layers")
    if layers is not None:
        if layers < 0:
            raise ValueError("layers is negative")
        return stream.layers[layers].offset if layers < len(stream.layers) else stream.size
    assert max_bytes is not None
    if max_bytes < stream.header_size:
        raise StreamError(f"{max_bytes} bytes do not hold the header of {stream.header_size} bytes")
    return min(stream.size, max_bytes)


def _header_crc(head: bytes) -> bytes:
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
    # The coarsest count by its width, the finer ones as growth, which is at most 7 a node.
    above = header.counts[-1]
    width = above.bit_length()
    fields.write(width - 1, _width_bits(header.depth))
    fields.write(above - (1 << width - 1), width - 1)
    for count in header.counts[-2::-1]:
        fields.write(count - above, (7 * above).bit_length())
        above = count


def _read_milestones(reader: BitReader) -> int:
    return ALL_MILESTONES if reader.read(1) else reader.read(7)


def _read_counts(reader: BitReader, depth: int) -> tuple[int, ...]:
    if depth == 0:
        raise StreamError("the stream header is damaged")
    width = reader.read(_width_bits(depth))
    above = 1 << width | reader.read(width)
    counts = [above]
    for _ in range(min(4, depth) - 1):
        above += reader.read((7 * above).bit_length())
        counts.append(above)
    return tuple(reversed(counts))


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


def _layers(source: Source, header: Header, lengths: list[int], start: int) -> Stream:
    if header.counts[0] > point_budget(sum(lengths)):
        raise StreamError(
            f"the header claims {header.counts[0]} points in {sum(lengths)} bytes; "
            f"at most {POINT_FLOOR} and {POINTS_PER_BYTE} a byte are accepted"
        )
    layers, offset, size = [], start, source.size
    for spec, length in zip(header.layers, lengths, strict=True):
        if length > header.max_length(spec):
            raise StreamError(f"the header claims {length} bytes for layer {spec.name}")
        arrived = max(0, min(length, size - offset))
        layers.append(Layer(spec, offset, length, arrived, source))
        offset += length
    return Stream(header, tuple(layers), start, offset, max(0, size - offset))
