"""Exact integer arithmetic of the decoder's networks, as matrix products in 8 bits and in fp32.

Activations are integers 0…127, weights int8 times a power of two per output
channel. All terms of a sum are then multiples of ``2**-f``, and where their
absolute values add up to less than ``2**(24-f)`` every partial sum is exact in
fp32, whatever the order of summation: the same bits on every machine, thread
count and BLAS. :class:`ExactSum` checks this bound for each channel when a
network is loaded, so no input can break it. Where the inputs are bytes, as in
all convolutions, the products are those of :mod:`pccodec.sparse.products`,
which give the same sums in less time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pccodec.errors import ModelError
from pccodec.sparse.neighbors import KERNEL
from pccodec.sparse.products import ByteMatrix

ACTIVATION_UNIT = 16
"""Activation 16 stands for 1.0 in the float twin."""
ACTIVATION_MAX = 127
BIAS_BITS = 4
"""Biases are int32 multiples of ``2**-BIAS_BITS`` of an activation step."""

BLOCK = 2048
"""Nodes a block where few channels are gathered."""
BLOCK_VALUES = 1 << 14
"""Nodes times channels a block where many are: the gathered rows stay in the cache."""

_EXACT = float(2**24)


def require(name: str, ok: bool) -> None:
    """Raise ModelError for a tensor unless ``ok``."""
    if not ok:
        raise ModelError(f"the network's tensor {name} is missing or unfit")


class ExactSum:
    """One accumulator: matrices whose products are summed, a bias, and a proof of exactness.

    Args:
        name: for the error message.
        parts: of each matrix weight int8 (K, H), shift int8 (H,), and the largest absolute input.
        bias: integers (H,), multiples of ``2**-BIAS_BITS``.
        fine: the sums, weights and offset count ``2**fine`` times.

    Attributes:
        weights: fp32 (K, H), one a part.
        offset: fp32 (H,), the bias and the half that turns the floor into rounding.

    Raises:
        ModelError: if some input could make a sum inexact.
    """

    def __init__(
        self, name: str, parts: list[tuple[np.ndarray, np.ndarray, int]], bias: np.ndarray, fine: int = 0
    ) -> None:
        # Scaled by ldexp, which is exact; exp2 need not be.
        shifts = [shift.astype(np.int32) - fine for _, shift, _ in parts]
        scaled = [
            np.ldexp(weight.astype(np.float64), -shift)
            for (weight, _, _), shift in zip(parts, shifts, strict=True)
        ]
        # At least the bits of the bias and of the half that rounding adds.
        fraction = np.max(shifts, axis=0).clip(max(BIAS_BITS - fine, 1))
        offset = bias * 2.0 ** (fine - BIAS_BITS)
        bound = np.abs(offset) + 0.5
        for weight, (_, _, largest) in zip(scaled, parts, strict=True):
            bound = bound + np.abs(weight).sum(axis=0) * largest
        require(name, bool((np.ldexp(bound, fraction) < _EXACT).all()))
        self.weights = [weight.astype(np.float32) for weight in scaled]
        self.offset = (offset + 0.5).astype(np.float32)
        self._bytes = {
            part: ByteMatrix(weight, shift)
            for part, ((weight, _, _), shift) in enumerate(zip(parts, shifts, strict=True))
            if weight.dtype == np.int8
        }

    def times(self, rows: np.ndarray, part: int = 0) -> np.ndarray:
        """Product fp32 (n, H) of activations or bits, uint8 (n, K), and the int8 matrix of a part."""
        return self._bytes[part].times(rows)


def activate(sums: np.ndarray) -> np.ndarray:
    """Sums (half included), which are overwritten, to activations uint8, 0…127."""
    return np.clip(sums, 0.0, ACTIVATION_MAX, out=sums).astype(np.uint8)


def gathered(table: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
    """Rows of uint8 table (n + 1, C) at neighbors (b, 27) as uint8 (b, 27 C)."""
    # Rows of one machine word are taken fastest as words.
    words = {8: np.uint64, 16: np.complex128}
    channels = table.shape[1]
    # Indices are widened block by block: for the whole map at once they would take twice its memory.
    indices = neighbors.astype(np.intp)
    if channels in words:
        return np.take(table.view(words[channels])[:, 0], indices).view(np.uint8)
    return np.take(table, indices, axis=0).reshape(len(indices), KERNEL * channels)


def with_absent(rows: np.ndarray) -> np.ndarray:
    """Rows (n, C) with the zero row that absent neighbours point to, (n + 1, C)."""
    return np.concatenate([rows, np.zeros((1, rows.shape[1]), dtype=rows.dtype)])


def node_blocks(count: int, first: int = 0, channels: int | None = None) -> Iterator[slice]:
    """Slices of ``first``…``count`` of as many nodes as suit the ``channels`` that are gathered."""
    step = BLOCK_VALUES // channels if channels else BLOCK
    for start in range(first, count, step):
        yield slice(start, min(start + step, count))
