"""Range coder whose streams may be cut after any byte.

A thin layer over constriction's queue range coder: probabilities are integers
over ``2**16`` (exact in float64, so no rounding reaches the coder), bytes are
stored most significant first, and a decoder that is given only a prefix returns
exactly the symbols which that prefix determines.

The rule for a prefix: whatever follows it, the code value lies between the
prefix continued with 0x00 and the prefix continued with 0xFF. The coder's
intervals are ordered like the symbols, so where both continuations decode to the
same symbols, every continuation does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import constriction
import numpy as np

from pccodec.errors import DamagedError

PRECISION = 16
"""Probabilities are integers over ``2**PRECISION``."""

_SCALE = 2.0**-PRECISION
_STATE_BYTES = 8
_PAD_WORDS = 4
# Rows of a categorical chunk are expanded to float64: bound the memory that takes.
_TABLE_ENTRIES = 1 << 20

# The compiled package offers its parts as attributes only, not as importable modules.
_Encoder = constriction.stream.queue.RangeEncoder
_Decoder = constriction.stream.queue.RangeDecoder
_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)
_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)

_Step = Callable[[Any, int, int], np.ndarray]


def _shortest(sealed: bytes, words: int, lower: int, span: int) -> bytes:
    """The shortest byte string whose continuation with zeros lies in the final interval.

    Args:
        sealed: a valid code string, 4 bytes a word.
        words: words that were final before the encoder's 64-bit window began.
        lower: lower end of the interval within the window, modulo 2**64.
        span: size of the interval within the window.
    """
    window_end = 4 * words + _STATE_BYTES
    value = int.from_bytes(sealed.ljust(window_end, b"\0"), "big")
    shift = 8 * (max(len(sealed), window_end) - window_end)
    offset = ((value >> shift) - lower) % 2**64
    if offset >= span:
        return sealed.rstrip(b"\0")
    low = (value >> shift) - offset
    for spare in range(_STATE_BYTES, 0, -1):
        unit = 8 * spare
        candidate = -(-low >> unit) << unit
        if candidate < low + span:
            return candidate.to_bytes(window_end + 1, "big")[1:].rstrip(b"\0")
    return sealed.rstrip(b"\0")


class RangeEncoder:
    """Encodes symbols with a probability each into bytes."""

    def __init__(self) -> None:
        self._coder = _Encoder()
        self._empty = True

    def encode_bits(self, bits: np.ndarray, p_one: np.ndarray) -> None:
        """Append bits.

        Args:
            bits: uint8 or bool (n,), 0 or 1.
            p_one: uint16 (n,), probability of a 1 times 2**16, in 1…65535.
        """
        if len(bits):
            self._coder.encode(bits.astype(np.int32), _BERNOULLI, p_one * _SCALE)
            self._empty = False

    def encode_symbols(self, symbols: np.ndarray, rows: np.ndarray, tables: np.ndarray) -> None:
        """Append symbols of an alphabet of size S.

        Args:
            symbols: int32 (n,), in 0…S-1.
            rows: int32 (n,), the table row that each symbol is coded with.
            tables: uint32 (R, S), frequencies; rows sum to 2**16, entries are at least 1.
        """
        step = max(1, _TABLE_ENTRIES // tables.shape[1])
        for start in range(0, len(symbols), step):
            chosen = tables[rows[start : start + step]] * _SCALE
            part = symbols[start : start + step].astype(np.int32, copy=False)
            self._coder.encode(part, _CATEGORICAL, chosen)
            self._empty = False

    def finish(self) -> bytes:
        """The code string, as short as it can be: the decoder reads missing bytes as zeros."""
        if self._empty:
            return b""
        words, (lower, span) = self._coder.pos()
        sealed = self._coder.get_compressed().astype(">u4").tobytes()
        return _shortest(sealed, words, lower, span)


class RangeDecoder:
    """Decodes what :class:`RangeEncoder` wrote, or as much as a prefix of it determines.

    Args:
        data: the bytes of the layer, or its first bytes.
        complete: whether ``data`` is the whole layer. If so every request is
            answered in full; if not, fewer symbols come back once the bytes run out.
    """

    def __init__(self, data: bytes, complete: bool) -> None:
        self._behind = _Encoder()
        self._answers: list[tuple[np.ndarray, np.ndarray]] = []
        self._open(data, complete)

    def _open(self, data: bytes, complete: bool) -> None:
        self._exhausted, self._complete = False, complete
        fills = [b"\x00"] if complete else [b"\x00", b"\xff"]
        length = (len(data) + 3) // 4 * 4 + 4 * _PAD_WORDS
        self._coders = [
            _Decoder(np.frombuffer(data.ljust(length, fill), dtype=">u4").astype(np.uint32)) for fill in fills
        ]

    def extend(self, data: bytes, complete: bool) -> None:
        """Go on behind the last request for bits that was answered in full.

        Args:
            data: the bytes of the layer so far: those that were given before, and more.
            complete: as for the constructor.
        """
        # constriction's decoder does not tell where it stands; its encoder does.
        for bits, p_one in self._answers:
            self._behind.encode(bits.astype(np.int32), _BERNOULLI, p_one * _SCALE)
        self._answers.clear()
        self._open(data, complete)
        for coder in self._coders:
            coder.seek(*self._behind.pos())

    @property
    def exhausted(self) -> bool:
        """Whether a request has come back short: no later symbol is determined either."""
        return self._exhausted

    def decode_bits(self, p_one: np.ndarray) -> np.ndarray:
        """Bits, uint8 (k,), k ≤ n, for probabilities of a 1 times 2**16, uint16 (n,).

        Raises:
            DamagedError: if a complete layer holds what no encoder writes.
        """
        probabilities = p_one * _SCALE

        def step(coder: Any, start: int, stop: int) -> np.ndarray:
            return coder.decode(_BERNOULLI, probabilities[start:stop])

        bits = self._decode(len(p_one), step).astype(np.uint8)
        if not (self._complete or self._exhausted):
            self._answers.append((bits, p_one))
        return bits

    def decode_symbols(self, rows: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Symbols, int32 (k,), k ≤ n, for table rows int32 (n,) and tables uint32 (R, S).

        Raises:
            DamagedError: if a complete layer holds what no encoder writes.
        """

        def step(coder: Any, start: int, stop: int) -> np.ndarray:
            return coder.decode(_CATEGORICAL, tables[rows[start:stop]] * _SCALE)

        size = max(1, _TABLE_ENTRIES // tables.shape[1])
        parts = [np.zeros(0, dtype=np.int32)]
        for start in range(0, len(rows), size):
            if self._exhausted:
                break
            stop = min(start + size, len(rows))
            offset = start

            def part(coder: Any, first: int, last: int, offset: int = offset) -> np.ndarray:
                return step(coder, offset + first, offset + last)

            parts.append(self._decode(stop - start, part))
        return np.concatenate(parts)

    def _decode(self, count: int, step: _Step) -> np.ndarray:
        if self._exhausted or count == 0:
            return np.zeros(0, dtype=np.int32)
        if len(self._coders) == 1:
            try:
                return step(self._coders[0], 0, count)
            except AssertionError as error:
                raise DamagedError("a layer holds bytes that no encoder writes") from error
        low, high = (self._attempt(i, count, step) for i in range(2))
        shared = min(len(low), len(high))
        differ = np.flatnonzero(low[:shared] != high[:shared])
        agreed = int(differ[0]) if len(differ) else shared
        self._exhausted = agreed < count
        return low[:agreed]

    def _attempt(self, index: int, count: int, step: _Step) -> np.ndarray:
        """The symbols that one continuation decodes to, up to where it leaves the code."""
        saved = self._coders[index].clone()
        try:
            return step(self._coders[index], 0, count)
        except AssertionError:
            # The continuation is no code string from some symbol on; find that symbol by halving.
            parts, done = [np.zeros(0, dtype=np.int32)], 0
            size = count
            while size > 1 and done < count:
                size = (size + 1) // 2
                trial = saved.clone()
                try:
                    part = step(trial, done, min(done + size, count))
                except AssertionError:
                    continue
                parts.append(part)
                done += len(part)
                saved = trial
            self._coders[index] = saved
            return np.concatenate(parts)
