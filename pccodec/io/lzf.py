"""Decompression of LZF, the format of LibLZF that compressed PCD files use."""

from __future__ import annotations

from pccodec.errors import InputError


def decompress(data: bytes, size: int) -> bytes:
    """Decompress to exactly ``size`` bytes.

    The data is a sequence of runs. A control byte below 32 is followed by that many
    plus one literal bytes. Else its upper three bits are a length (7: the next byte
    is added to it) and the lower five, with one more byte, a distance: length + 2
    bytes are copied from distance + 1 bytes back.

    Raises:
        InputError: the data is damaged.
    """
    out = bytearray()
    position = 0
    try:
        while position < len(data):
            control = data[position]
            position += 1
            if control < 32:
                out += data[position : position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[position]
                position += 1
            start = len(out) - ((control & 31) << 8) - data[position] - 1
            position += 1
            length += 2
            if start < 0 or len(out) + length > size:
                raise InputError("the compressed data is damaged")
            # A copy may overlap what it writes; then the bytes between repeat.
            piece = out[start : start + length]
            repeats = -(-length // len(piece))
            out += (piece * repeats)[:length]
    except IndexError:
        raise InputError("the compressed data ends early") from None
    if len(out) != size or position != len(data):
        raise InputError("the compressed data is damaged")
    return bytes(out)
