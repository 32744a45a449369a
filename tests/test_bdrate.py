"""BD-rate: known values, the rules for unruly points, and properties of the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pccodec.evaluation import bdrate

RATE = [0.02, 0.05, 0.11, 0.24, 0.5]
PSNR = [58.0, 63.5, 67.0, 70.1, 72.0]

curves = st.lists(
    st.tuples(st.floats(1e-3, 10), st.floats(40, 80)), min_size=2, max_size=12, unique_by=(lambda p: p[0])
)


def split(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [rate for rate, _ in points], [quality for _, quality in points]


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (1, 0), (1.1, 10), (2, 100)])
def test_scaled_rates(factor: float, percent: float) -> None:
    anchor = bdrate.anchor_curve(RATE, PSNR)
    test = bdrate.codec_curve([factor * rate for rate in RATE], PSNR)
    assert bdrate.bd_rate(anchor, test) == pytest.approx(percent, abs=1e-9)


def test_shifted_psnr() -> None:
    anchor = bdrate.anchor_curve(RATE, PSNR)
    test = bdrate.codec_curve(RATE, [value + 1.5 for value in PSNR])
    assert bdrate.bd_psnr(anchor, test) == pytest.approx(1.5)
    assert bdrate.bd_rate(anchor, test) < 0


def test_straight_lines_by_hand() -> None:
    # PSNR = 60 + 10·log10(rate) against 50 + 20·log10(rate), over 60…70 dB of the first.
    anchor = bdrate.anchor_curve([1, 10], [60, 70])
    test = bdrate.codec_curve([10**0.5, 10], [60, 70])
    # log10 differences run from 0.5 to 0, on average 0.25.
    assert bdrate.bd_rate(anchor, test) == pytest.approx(100 * (10**0.25 - 1))


def test_only_the_common_interval_counts() -> None:
    anchor = bdrate.anchor_curve(RATE, PSNR)
    longer = bdrate.codec_curve([0.001, *(0.5 * rate for rate in RATE), 2], [30, *PSNR, 80])
    assert bdrate.bd_rate(anchor, longer) == pytest.approx(-50, abs=3)


def test_lossless_points_are_no_part_of_the_curve() -> None:
    for lossless in (99.99, math.inf):
        assert len(bdrate.anchor_curve([*RATE, 0.7], [*PSNR, lossless])) == len(RATE)
        assert len(bdrate.codec_curve([*RATE, 0.7], [*PSNR, lossless])) == len(RATE)


@pytest.mark.parametrize(
    ("bpp", "psnr"), [([], []), ([0.1], [60.0]), ([0.1, 0.2], [80.0, 85.0]), ([1.0, 1.0], [60.0, 60.0])]
)
def test_no_overlap_is_nan(bpp: list[float], psnr: list[float]) -> None:
    anchor = bdrate.anchor_curve(RATE, PSNR)
    assert math.isnan(bdrate.bd_rate(anchor, bdrate.codec_curve(bpp, psnr)))
    assert math.isnan(bdrate.bd_rate(bdrate.anchor_curve(bpp, psnr), bdrate.codec_curve(RATE, PSNR)))


def test_rates_that_do_not_overlap_have_no_bd_psnr() -> None:
    anchor = bdrate.anchor_curve(RATE, PSNR)
    test = bdrate.codec_curve([10 * rate + 1 for rate in RATE], PSNR)
    assert math.isnan(bdrate.bd_psnr(anchor, test))
    assert bdrate.bd_rate(anchor, test) > 0


def test_unruly_points_favour_the_anchor() -> None:
    # The third point has more bytes and less quality than the second.
    bpp, psnr = [0.1, 0.2, 0.3, 0.4], [60.0, 64.0, 63.0, 66.0]
    assert bdrate.anchor_curve(bpp, psnr).bpp.tolist() == [0.1, 0.2, 0.4]
    assert bdrate.codec_curve(bpp, psnr).bpp.tolist() == [0.1, 0.3, 0.4]


def test_repeated_points() -> None:
    bpp, psnr = [0.1, 0.1, 0.2, 0.2, 0.3], [60.0, 60.0, 62.0, 63.0, 63.0]
    anchor, test = bdrate.anchor_curve(bpp, psnr), bdrate.codec_curve(bpp, psnr)
    assert (anchor.bpp.tolist(), anchor.psnr.tolist()) == ([0.1, 0.2], [60, 63])
    assert (test.bpp.tolist(), test.psnr.tolist()) == ([0.1, 0.2, 0.3], [60, 62, 63])


@given(curves)
def test_curves_increase_strictly_and_keep_the_ends(points: list[tuple[float, float]]) -> None:
    bpp, psnr = split(points)
    for curve in (bdrate.anchor_curve(bpp, psnr), bdrate.codec_curve(bpp, psnr)):
        assert (np.diff(curve.bpp) > 0).all()
        assert (np.diff(curve.psnr) > 0).all()
    assert bdrate.anchor_curve(bpp, psnr).psnr[-1] == max(psnr)
    assert bdrate.codec_curve(bpp, psnr).psnr[0] == min(psnr)


@given(curves, st.floats(0.05, 20))
def test_scaling_one_codec_scales_its_rate(points: list[tuple[float, float]], factor: float) -> None:
    bpp, psnr = split(points)
    anchor = bdrate.anchor_curve(bpp, psnr)
    if len(anchor) >= 2:
        scaled = bdrate.Curve(factor * anchor.bpp, anchor.psnr)
        assert bdrate.bd_rate(anchor, scaled) == pytest.approx(100 * (factor - 1), rel=1e-6, abs=1e-6)


@given(curves, curves)
def test_swapping_the_codecs_inverts_the_ratio(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    a, b = bdrate.anchor_curve(*split(first)), bdrate.anchor_curve(*split(second))
    there, back = bdrate.bd_rate(a, b), bdrate.bd_rate(b, a)
    assert math.isnan(there) == math.isnan(back)
    if not math.isnan(there):
        assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, rel=1e-6)
