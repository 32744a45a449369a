"""Adapts the network's probabilities to the cloud at hand, exactly in integers.

The network knows clouds in general. What is particular to one cloud (how sure
the network may be of itself there, planes in which a range camera or a scanner
puts all its points) shows while it is decoded: for several contexts both sides
count how many ones came and how many the network expected. Each context gives a
correction of the logit, the log of the odds that came over the odds expected:

    c = log(ones + K) - log(expected ones + K) - log(zeros + K) + log(expected zeros + K)

and the coded logit is a weighted sum of the network's logit and the corrections,
as in logistic mixing (Mahoney, "Adaptive weighing of context models for lossless
data compression", 2005). The weights follow the gradient of the code length, each
divided by the curvature summed so far (a diagonal Newton step). Everything is
updated after each block of bits, so a block is one set of array operations.

Counts, weights and logits are integers. They are held in float64 where that is
faster; all values stay below 2**53, so every sum is exact whatever its order.
"""

from __future__ import annotations

import numpy as np

from pccodec.model.occupancy import LOGIT_MAX, LOGIT_UNIT

BLOCK = 1024
"""Bits between two updates."""

_ONE = 65536.0
_PRIOR = 10 * 65536
_CORRECTION_MAX = 1023.0
_CONFIDENCE_BINS = 32
_AXES = 3
# Weights of the network's logit, all bits of the pass, confidence, and the planes of three axes; 2**-16.
_START = np.array([65536, 19661, 19661, 39322, 39322, 39322], dtype=np.int64)
# 2**26 is a curvature of one (logits in 1/128, p(1-p) in 2**-12).
_CURVATURE_START = 30 << 26
# 5/16 of a Newton step, in the units of weights, gradient and curvature.
_STEP = 5 * 8 * 65536 // 16
_CURVATURE_SHIFT = 2.0**-20
_LOG_BITS = 11


def _probability_table() -> np.ndarray:
    """P(1) · 2**16, int64, for logits -LOGIT_MAX…LOGIT_MAX."""
    logits = np.arange(-LOGIT_MAX, LOGIT_MAX + 1) / LOGIT_UNIT
    return np.clip(np.rint(_ONE / (1.0 + np.exp(-logits))), 1, 65535).astype(np.int64)


def _log_table() -> np.ndarray:
    """Natural logarithm in 2**-10 nats of the mantissas 0.5 … 1 in steps of 2**-12."""
    steps = np.arange(1 << _LOG_BITS) + 0.5
    return np.rint(1024 * np.log(0.5 + steps / (2 << _LOG_BITS)))


PROBABILITY = _probability_table()
_LOG = _log_table()
_LN2 = 710.0
"""Natural logarithm of 2 in 2**-10 nats, rounded."""


def integer_log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of positive integers (float64, exact), as integers in 2**-10 nats."""
    mantissa, exponent = np.frexp(x)
    index = ((mantissa - 0.5) * (2 << _LOG_BITS)).astype(np.int64)
    return _LOG[index] + exponent * _LN2


class _Counts:
    """Ones that came, ones expected and bits, in 2**-16, for each value of a context."""

    def __init__(self, size: int) -> None:
        self._sums = np.zeros((3, size))

    def corrections(self, keys: slice) -> np.ndarray:
        """The correction of each context value in a range, in units of logits."""
        ones, expected, bits = self._sums[:, keys]
        log = integer_log(
            np.stack([ones + _PRIOR, bits - expected + _PRIOR, expected + _PRIOR, bits - ones + _PRIOR])
        )
        correction = np.floor((log[0] + log[1] - log[2] - log[3]) * (LOGIT_UNIT / 1024))
        return np.clip(correction, -_CORRECTION_MAX, _CORRECTION_MAX)

    def add(self, keys: np.ndarray, first: int, ones: np.ndarray, expected: np.ndarray) -> None:
        """Count bits whose context values are ``first + keys``."""
        for row, weights in enumerate((ones, expected, None)):
            sums = np.bincount(keys, weights)
            if weights is None:
                sums = sums * _ONE
            self._sums[row, first : first + len(sums)] += sums


def _probability(logits: np.ndarray) -> np.ndarray:
    """P(1) · 2**16 for logits (integers in float64, any size)."""
    return PROBABILITY[np.clip(logits, -LOGIT_MAX, LOGIT_MAX).astype(np.int64) + LOGIT_MAX]


class Calibration:
    """Adaptive state of one layer; encoder and decoder drive it with the same bits.

    Args:
        coords: int32 (n, 3), coordinates of the nodes whose child bits are coded.
    """

    def __init__(self, coords: np.ndarray) -> None:
        self._planes = [np.unique(coords[:, axis], return_inverse=True)[1] for axis in range(_AXES)]
        sizes = [int(planes.max(initial=0)) + 1 for planes in self._planes]
        self._plane_counts = [[_Counts(size), _Counts(size)] for size in sizes]
        self._weights = _START.copy()
        self._curvature = np.full(len(_START), _CURVATURE_START, dtype=np.int64)
        self.start_pass(0)

    def start_pass(self, octant: int) -> None:
        """Begin the pass of an octant: its planes are the halves of the nodes that it lies in."""
        self._overall, self._confidence = _Counts(1), _Counts(_CONFIDENCE_BINS)
        self._halves = [counts[octant >> (2 - axis) & 1] for axis, counts in enumerate(self._plane_counts)]

    def predict(self, nodes: slice, chosen: np.ndarray | None, logits: np.ndarray) -> np.ndarray:
        """P(1) · 2**16, uint16 (k,), of a block of at most BLOCK bits.

        Args:
            nodes: the nodes of the block.
            chosen: indices within the block of the nodes that are coded; None for all.
            logits: the network's, float64 (k,) holding integers, of the coded nodes.
        """
        inputs = np.empty((len(_START), len(logits)))
        inputs[0] = logits
        inputs[1] = self._overall.corrections(slice(0, 1))
        bins = np.clip((logits + LOGIT_UNIT * 8) // (LOGIT_UNIT // 2), 0, _CONFIDENCE_BINS - 1)
        self._bins = bins.astype(np.int64)
        inputs[2] = self._confidence.corrections(slice(None))[self._bins]
        self._keys = []
        for axis in range(_AXES):
            keys = self._planes[axis][nodes]
            keys = keys if chosen is None else keys[chosen]
            first = int(keys.min(initial=0)) if len(keys) == 0 else int(keys.min())
            keys = keys - first
            self._keys.append((keys, first))
            last = first + int(keys.max(initial=0)) + 1
            inputs[3 + axis] = self._halves[axis].corrections(slice(first, last))[keys]
        weights = self._weights.astype(np.float64)
        self._inputs = inputs
        self._without_planes = _probability(np.floor(weights[:3] @ inputs[:3] * (1 / _ONE)))
        self._network = _probability(logits)
        self._mixed = _probability(np.floor(weights @ inputs * (1 / _ONE)))
        return self._mixed.astype(np.uint16)

    def update(self, bits: np.ndarray) -> None:
        """Learn from the bits, uint8 (k,), of the block that was predicted last."""
        if not len(bits):
            return
        ones = bits * _ONE
        zero_keys = np.zeros(len(bits), dtype=np.int64)
        self._overall.add(zero_keys, 0, ones, self._network)
        self._confidence.add(self._bins, 0, ones, self._network)
        for halves, (keys, first) in zip(self._halves, self._keys, strict=True):
            halves.add(keys, first, ones, self._without_planes)
        error = ones - self._mixed
        variance = np.floor(self._mixed * (_ONE - self._mixed) * _CURVATURE_SHIFT)
        gradient = (self._inputs @ error).astype(np.int64)
        self._curvature += (np.square(self._inputs) @ variance).astype(np.int64)
        self._weights += gradient * _STEP // self._curvature
        np.clip(self._weights, -(1 << 18), 1 << 18, out=self._weights)
