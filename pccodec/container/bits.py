"""Bit fields of the header, most significant bit first."""

from __future__ import annotations

from pccodec.errors import CutHeaderError, StreamError

MAX_UNARY = 128
"""Longest run of ones in a valid unary code; more means damage."""


class BitWriter:
    """Collects bit fields; ``finish`` pads the last byte with zero bits."""

    def __init__(self) -> None:
        self._value = 0
        self._bits = 0

    def write(self, value: int, width: int) -> None:
        """Append ``value`` (0 ≤ value < 2**width) as ``width`` bits."""
        if not 0 <= value < 1 << width:
            raise ValueError(f"{value} does not fit {width} bits")
        self._value = self._value << width | value
        self._bits += width

    def write_unary(self, value: int) -> None:
        """Append ``value`` ones and a zero."""
        self.write((1 << value + 1) - 2, value + 1)

    def finish(self) -> bytes:
        """All fields as bytes."""
        padding = -self._bits % 8
        return (self._value << padding).to_bytes((self._bits + padding) // 8, "big")


class BitReader:
    """Reads bit fields from ``data``; asking for more than it holds raises ``StreamError``."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)
        self._size = len(data)

    def read(self, width: int) -> int:
        """The next ``width`` bits as an unsigned integer."""
        self._left -= width
        if self._left < 0:
            raise CutHeaderError("the stream header is cut short or damaged")
        return self._value >> self._left & (1 << width) - 1

    def read_unary(self) -> int:
        """Number of ones before the next zero."""
        for ones in range(MAX_UNARY):
            if not self.read(1):
                return ones
        raise StreamError("the stream header is damaged")

    @property
    def bytes_read(self) -> int:
        """Bytes touched so far, the last one counted whole."""
        return self._size - self._left // 8


def write_near(writer: BitWriter, value: int, expected: int, width: int) -> None:
    """Append an integer that is likely to be near ``expected``.

    Args:
        writer: takes the bits.
        value, expected: of any sign and size.
        width: bits that the difference is expected to have.

    The number of bits of the difference comes as its own difference from ``width``, zigzag mapped and in
    unary, then the sign, then the bits below the leading one.
    """
    difference = abs(value - expected)
    bits = difference.bit_length()
    error = bits - width
    writer.write_unary(2 * error if error >= 0 else -2 * error - 1)
    if bits:
        writer.write(value < expected, 1)
        writer.write(difference - (1 << bits - 1), bits - 1)


def read_near(reader: BitReader, expected: int, width: int) -> int:
    """What :func:`write_near` wrote with the same expectations."""
    bits = width + _zigzag(reader.read_unary())
    if bits <= 0:
        if bits < 0:
            raise StreamError("the stream header is damaged")
        return expected
    sign = -1 if reader.read(1) else 1
    return expected + sign * (1 << bits - 1 | reader.read(bits - 1))


def _zigzag(mapped: int) -> int:
    return -(mapped + 1 >> 1) if mapped & 1 else mapped >> 1


class LengthCoder:
    """Order of magnitude of layer lengths, predicted from the layers before.

    A length ``n`` is written as the bit width ``w`` of ``n + 1``, then the
    ``w - 1`` bits below its leading one. ``w`` is predicted: geometry layers
    grow about fourfold a level (two bits), a level's first rank takes half of
    its geometry layer, later ranks are like the one before. The prediction
    error, zigzag mapped (0, -1, 1, -2, …), is written in unary.
    """

    def __init__(self) -> None:
        self._geometry = 0
        self._rank = 0

    def write(self, writer: BitWriter, length: int, rank: int) -> None:
        """Append one layer's length; ``rank`` is 0 for geometry layers, else 1, 2, …"""
        value = length + 1
        width = value.bit_length()
        error = width - self._predict(rank)
        writer.write_unary(2 * error if error >= 0 else -2 * error - 1)
        writer.write(value - (1 << width - 1), width - 1)
        self._update(rank, width)

    def read(self, reader: BitReader, rank: int) -> int:
        """The next layer's length."""
        width = self._predict(rank) + _zigzag(reader.read_unary())
        if width < 1:
            raise StreamError("the stream header is damaged")
        self._update(rank, width)
        return (1 << width - 1 | reader.read(width - 1)) - 1

    def follow(self, length: int, rank: int) -> None:
        """Go past a layer whose length stands elsewhere."""
        self._update(rank, (length + 1).bit_length())

    def _predict(self, rank: int) -> int:
        if rank == 0:
            return self._geometry + 2
        return max(1, self._geometry - 1) if rank == 1 else self._rank

    def _update(self, rank: int, width: int) -> None:
        if rank == 0:
            self._geometry = width
        else:
            self._rank = width
