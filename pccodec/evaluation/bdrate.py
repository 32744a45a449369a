"""Bjøntegaard deltas between two rate–distortion curves.

BD-rate is the mean difference of log10(rate) at equal PSNR over the PSNR interval that both
curves cover, as a percentage of the anchor's rate; BD-PSNR is the mean difference in PSNR at
equal log10(rate). Curves are interpolated with monotone cubics (PCHIP) by the ``bjontegaard``
library (C. Herglotz et al., "Beyond Bjøntegaard", ICIP 2022).

PCHIP needs rates and PSNRs that increase strictly, which measured points do not always do.
No convex hull is taken. Two rules keep the comparison from flattering the test codec:

* ``anchor_curve`` keeps the anchor at its best: a point goes if another one has at most its
  rate and at least its PSNR.
* ``codec_curve`` keeps the test codec at its worst: a point goes if another one with at least
  its rate has at most its PSNR.

Points without distortion (99.99 dB in tables, or infinity) belong to no curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bjontegaard
import numpy as np

from pccodec.evaluation.metrics import LOSSLESS_PSNR


@dataclass(frozen=True)
class Curve:
    """A rate–distortion curve, both arrays strictly increasing, float64 (n,).

    Attributes:
        bpp: bits per input point.
        psnr: decibel.
    """

    bpp: np.ndarray
    psnr: np.ndarray

    def __len__(self) -> int:
        return len(self.bpp)


def anchor_curve(bpp: Sequence[float], psnr: Sequence[float]) -> Curve:
    """The points of an anchor that none of its other points dominates."""
    rate, quality = _lossy_points(bpp, psnr)
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], quality[:-1]]))
    keep = quality > best_before
    return Curve(rate[keep], quality[keep])


def codec_curve(bpp: Sequence[float], psnr: Sequence[float]) -> Curve:
    """The points of the codec under test that dominate none of its other points."""
    rate, quality = _lossy_points(bpp, psnr)
    worst_after = np.minimum.accumulate(np.concatenate([quality[1:], [np.inf]])[::-1])[::-1]
    keep = quality < worst_after
    return Curve(rate[keep], quality[keep])


_OPTIONS: dict[str, Any] = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Mean rate difference of ``test`` to ``anchor`` at equal PSNR, in percent.

    Negative numbers are savings: -50 means half the rate. NaN if a curve has fewer than two
    points or the PSNR intervals do not overlap.
    """
    if not _overlap(anchor.psnr, test.psnr):
        return math.nan
    return float(bjontegaard.bd_rate(anchor.bpp, anchor.psnr, test.bpp, test.psnr, **_OPTIONS))


def bd_psnr(anchor: Curve, test: Curve) -> float:
    """Mean PSNR difference of ``test`` to ``anchor`` at equal rate, in dB; positive is better.

    NaN if a curve has fewer than two points or the rate intervals do not overlap.
    """
    if not _overlap(anchor.bpp, test.bpp):
        return math.nan
    return float(bjontegaard.bd_psnr(anchor.bpp, anchor.psnr, test.bpp, test.psnr, **_OPTIONS))


def _lossy_points(bpp: Sequence[float], psnr: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rates and PSNRs of the points with distortion, by rate, of equal rates the best first."""
    rate, quality = np.asarray(bpp, dtype=np.float64), np.asarray(psnr, dtype=np.float64)
    order = np.lexsort((-quality, rate))
    order = order[quality[order] < LOSSLESS_PSNR]
    return rate[order], quality[order]


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return min(len(a), len(b)) >= 2 and max(a[0], b[0]) < min(a[-1], b[-1])
