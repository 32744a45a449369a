"""Packing, parsing and cutting streams. The byte layout is documented in docs/format.md."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pccodec.container.header import (
    MAX_HEADER,
    MAX_TABLE,
    Announced,
    pack_header,
    pack_table,
    parse_header,
    parse_table,
)
from pccodec.container.layout import (
    POINT_FLOOR,
    POINTS_PER_BYTE,
    Header,
    LayerSpec,
    node_budget,
    point_budget,
)
from pccodec.errors import CutHeaderError, StreamError
from pccodec.source import BytesSource, Source

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True)
class Layer:
    """One layer as it arrived. Its bytes stay where they are until they are asked for.

    Attributes:
        spec: which layer it is.
        offset: position of its first byte in the stream.
        length: bytes that the header declares.
        arrived: bytes of it that the source has, ``length`` or fewer.
        check: check value of a geometry layer, 0…255; None of ranks and of levels above CHECKED_LEVEL.
        source: the stream.
    """

    spec: LayerSpec
    offset: int
    length: int
    arrived: int
    check: int | None
    source: Source = field(repr=False, compare=False)

    @property
    def end(self) -> int:
        """Position behind its last byte."""
        return self.offset + self.length

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
        layers: the layers whose place is known, in order: all of them once the table behind the base
            layer is there, until then those of the base layer. Those after a cut have no bytes.
        header_size: bytes before the first layer.
        size: bytes of the whole stream as declared; None while the table is not known.
        arrived: bytes that are there, trailing ones included.
        damage: what is wrong with the table, if it arrived damaged; nothing behind it can be used.
    """

    header: Header
    layers: tuple[Layer, ...]
    header_size: int
    size: int | None
    arrived: int
    damage: str | None = None

    @property
    def complete(self) -> bool:
        """All bytes of all layers arrived."""
        return self.size is not None and all(layer.complete for layer in self.layers)

    @property
    def bytes_here(self) -> int:
        """Bytes of the stream that arrived, without trailing ones."""
        return self.arrived if self.size is None else min(self.arrived, self.size)

    @property
    def trailing(self) -> int:
        """Bytes after the declared end; they are no part of the stream."""
        return self.arrived - self.bytes_here

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


def pack(header: Header, payloads: Sequence[bytes], checks: Mapping[int, int]) -> bytes:
    """The stream of a header and its layers.

    Zero bytes are appended to the last layer if the cloud has more points than
    ``point_budget`` allows for its payload; range-coded data reads as if zeros followed
    its end, so they change nothing.

    Args:
        header: the header.
        payloads: of all layers, in order.
        checks: check values 0…255 by level, of the levels in ``header.checked``.

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
    lengths = [len(payload) for payload in payloads]
    base, behind = payloads[: header.announced], payloads[header.announced :]
    return b"".join(
        (
            pack_header(header, lengths, checks),
            *base,
            pack_table(header, lengths, checks),
            *behind,
        )
    )


def parse(data: Buffer) -> Stream:
    """``parse_source`` of bytes."""
    return parse_source(BytesSource(bytes(data)))


def parse_source(source: Source) -> Stream:
    """The header and layers of a stream or of any prefix that holds the header.

    Reads the header's bytes and the table's only, 2.5 kilobytes at most; the layers read theirs when
    asked. Nothing is allocated on the word of either; all claims are within the limits of ``Header`` and,
    once the table is there, ``point_budget`` when this returns.

    Raises:
        CutHeaderError: the data ends before the header does, as far as it can be read.
        StreamError: not a stream, a newer format, a damaged header, or a header
            whose claims cannot be true.
    """
    head = source.read(0, MAX_HEADER)
    header, front = parse_header(head)
    layers = _layers(source, header, front, header.layers, front.size)
    end = layers[-1].end if layers else front.size
    table = head[end : end + MAX_TABLE]
    # A forged place may lie beyond what a file can be asked for.
    if len(table) < MAX_TABLE and source.size > max(len(head), end):
        table = source.read(end, end + MAX_TABLE)
    try:
        rest = parse_table(header, front, table)
        _check_points(header, front.lengths + rest.lengths)
        behind = _layers(source, header, rest, header.layers[header.announced :], end + rest.size)
    except CutHeaderError:
        # More than any table takes, and still no end of it: that is no cut.
        damage = "it has no end" if len(table) == MAX_TABLE else None
        return Stream(header, layers, front.size, None, source.size, damage)
    except StreamError as error:
        return Stream(header, layers, front.size, None, source.size, str(error))
    return Stream(header, layers + behind, front.size, behind[-1].end, source.size)


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
    there = stream.arrived if stream.size is None else stream.size
    if layers is not None:
        if layers < 0:
            raise ValueError("layers is negative")
        if layers == 0:
            return stream.header_size
        return stream.layers[layers - 1].end if layers <= len(stream.layers) else there
    assert max_bytes is not None
    if max_bytes < stream.header_size:
        raise StreamError(f"{max_bytes} bytes do not hold the header of {stream.header_size} bytes")
    return min(there, max_bytes)


def _check_points(header: Header, lengths: Sequence[int]) -> None:
    if header.counts[0] > point_budget(sum(lengths)):
        raise StreamError(
            f"the header claims {header.counts[0]} points in {sum(lengths)} bytes; "
            f"at most {POINT_FLOOR} and {POINTS_PER_BYTE} a byte are accepted"
        )


def _layers(
    source: Source, header: Header, announced: Announced, specs: Sequence[LayerSpec], start: int
) -> tuple[Layer, ...]:
    """The announced layers, the first of ``specs``, from a place in the stream on."""
    layers, offset = [], start
    for spec, length in zip(specs, announced.lengths, strict=False):
        if length > header.max_length(spec):
            raise StreamError(f"the header claims {length} bytes for layer {spec.name}")
        arrived = max(0, min(length, source.size - offset))
        check = announced.checks.get(spec.level) if spec.kind == "G" else None
        layers.append(Layer(spec, offset, length, arrived, check, source))
        offset += length
    return tuple(layers)
