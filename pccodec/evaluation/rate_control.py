"""The smallest prefix of an embedded stream that reaches a quality.

The encoder cannot know what a prefix is worth without decoding it, so this is a search: first
among the ends of the layers, then inside the one layer that crosses the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pccodec.evaluation.curves import EmbeddedCodec, peak_of_cloud
from pccodec.evaluation.metrics import Reference, psnr

TOLERANCE = 0.05
"""dB above the target at which a prefix is taken without looking for a smaller one."""

_MARGIN = 0.05
"""Least part of the bracket that a step leaves out, so that a bent curve does not stall the search."""


@dataclass(frozen=True)
class Prefix:
    """A prefix that was decoded and measured.

    Attributes:
        size: its bytes.
        d1_psnr: dB; infinite if it is lossless.
        decodings: prefixes that were decoded to find it.
    """

    size: int
    d1_psnr: float
    decodings: int


def smallest_prefix(data: bytes, points: np.ndarray, d1_psnr: float, codec: EmbeddedCodec) -> Prefix:
    """The smallest prefix, at least the first layer, that reaches a D1 PSNR, or the whole stream.

    What is found exceeds the target by no more than ``TOLERANCE``, unless quality jumps there:
    then one byte less does not reach it. Quality is taken to rise with the bytes; where it
    dips, a smaller prefix may reach the target too.

    Args:
        data: a whole stream.
        points: (n, 3), n ≥ 1, the points that were encoded.
        d1_psnr: target in dB, with the peak of ``peak_of_cloud``.
        codec: decodes the prefixes.
    """
    layout = codec.layout(data)
    reference = Reference(points, peak=peak_of_cloud(points, layout))
    wanted = 3 * reference.peak**2 * 10 ** (-d1_psnr / 10)
    measured: dict[int, float] = {}

    def error(size: int) -> float:
        if size not in measured:
            measured[size] = reference.d1_mse(codec.decode(data, size))
        return measured[size]

    low, high = _crossing_layer(layout.ends, error, wanted)
    # Inside a layer the squared error falls nearly in proportion to the bytes: regula falsi, aimed at
    # half the tolerance. An end of the bracket that stays a second time counts half (Illinois rule).
    aim = wanted * 10 ** (-TOLERANCE / 20)
    least = wanted * 10 ** (-TOLERANCE / 10)
    above, below = error(low) - aim, aim - error(high)
    stays = 0
    while high - low > 1 and error(high) < least:
        share = min(max(above / (above + below), _MARGIN), 1 - _MARGIN)
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        if error(middle) <= wanted:
            high, below = middle, max(aim - error(middle), 0)
            above /= 2 if stays == low else 1
            stays = low
        else:
            low, above = middle, error(middle) - aim
            below /= 2 if stays == high else 1
            stays = high
    return Prefix(high, psnr(error(high), reference.peak), len(measured))


def _crossing_layer(ends: tuple[int, ...], error: Callable[[int], float], wanted: float) -> tuple[int, int]:
    """Ends of two layers in a row, of which only the second reaches the error ``wanted``.

    Both are the same end if the first layer reaches it already, or none does.
    """
    low, high = -1, len(ends) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if error(ends[middle]) <= wanted:
            high = middle
        else:
            low = middle
    if low < 0 or error(ends[high]) > wanted:
        return ends[high], ends[high]
    return ends[low], ends[high]
