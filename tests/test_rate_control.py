"""The search for the smallest prefix of a quality, on codecs whose quality is known for every byte."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from pccodec.evaluation.curves import Layout
from pccodec.evaluation.rate_control import TOLERANCE, smallest_prefix

ENDS = (40, 100, 400, 2_000, 10_000)
PEAK = 1023


@dataclass
class ShiftingCodec:
    """Moves the only point, less with every byte; its squared error is a bent curve in each layer.

    Attributes:
        jump: bytes from which on the cloud is exact, besides the whole stream.
        decoded: sizes that were decoded.
    """

    jump: int = ENDS[-1]
    decoded: list[int] = field(default_factory=list)

    def encode(self, points: np.ndarray) -> bytes:
        return bytes(ENDS[-1])

    def decode(self, data: bytes, max_bytes: int) -> np.ndarray:
        self.decoded.append(max_bytes)
        return np.array([[self.squared_error(max_bytes) ** 0.5, 0, 0]])

    def layout(self, data: bytes) -> Layout:
        return Layout(("G4", "G3", "G2", "G1", "G0"), ENDS, depth=5)

    def squared_error(self, size: int) -> float:
        if size >= self.jump:
            return 0.0
        bounds = (0, *ENDS)
        layer = int(np.searchsorted(ENDS, size))
        share = (size - bounds[layer]) / (bounds[layer + 1] - bounds[layer])
        return 4.0 ** (4 - layer) * (1 - 0.75 * share**1.5)

    def psnr(self, size: int) -> float:
        error = self.squared_error(size)
        return 10 * math.log10(3 * PEAK**2 / error) if error else math.inf


POINTS = np.zeros((1, 3))


@pytest.mark.parametrize("target", [54.0, 57.3, 60.0, 63.2, 66.0, 70.5])
def test_hits_the_quality(target: float) -> None:
    codec = ShiftingCodec()
    found = smallest_prefix(codec.encode(POINTS), POINTS, target, codec)
    assert found.d1_psnr == pytest.approx(codec.psnr(found.size))
    assert found.d1_psnr >= target
    assert found.d1_psnr <= target + TOLERANCE or codec.psnr(found.size - 1) < target
    assert found.decodings == len(set(codec.decoded)) == len(codec.decoded) <= 12


@pytest.mark.parametrize("jump", [2_000, 2_001, 5_000, 9_999, 10_000])
def test_finds_a_jump_to_the_byte(jump: int) -> None:
    codec = ShiftingCodec(jump)
    found = smallest_prefix(codec.encode(POINTS), POINTS, 90.0, codec)
    assert (found.size, found.d1_psnr) == (jump, math.inf)
    assert found.decodings <= 15 or jump not in ENDS


def test_target_below_the_first_layer_gives_the_first_layer() -> None:
    codec = ShiftingCodec()
    assert smallest_prefix(codec.encode(POINTS), POINTS, 0.0, codec).size == ENDS[0]


@pytest.mark.parametrize("target", [500.0, 1e6, math.inf])
def test_quality_that_no_cut_has_takes_the_whole_stream(target: float) -> None:
    codec = ShiftingCodec()
    found = smallest_prefix(codec.encode(POINTS), POINTS, target, codec)
    assert (found.size, found.d1_psnr) == (ENDS[-1], math.inf)


def test_unreachable_quality_takes_the_whole_stream_and_says_so() -> None:
    codec = ShiftingCodec(jump=ENDS[-1] + 1)
    found = smallest_prefix(codec.encode(POINTS), POINTS, 90.0, codec)
    assert found.size == ENDS[-1]
    assert found.d1_psnr == pytest.approx(codec.psnr(ENDS[-1]))
    assert found.d1_psnr < 90
