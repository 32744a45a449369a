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
divided by its curvature over the recent bits (a diagonal Newton step). Everything
is updated after each block of bits, so a block is one set of array operations.

Counts, weights and logits are integers. They are held in float64 where that is
faster; all values stay below 2**53, so every sum is exact whatever its order.
"""

from __future__ import annotations

import numpy as np

from pccodec.entropy.contexts import SIZES
from pccodec.model.probability import LOGIT_MAX, LOGIT_UNIT, PRECISION, PROBABILITY

MAX_BLOCK = 1024
"""Most bits between two updates; their sums fit the fields below."""

_ONE = float(1 << PRECISION)
_PRIOR = 3 * 65536
_CORRECTION_MAX = 1023
_CONFIDENCE_BINS = 32
_TILE_WEIGHT = 8
"""As so many nodes counts a tile's in choosing blocks."""
_MEMORY = 8
"""Blocks that the contexts of a pass remember; those of the planes forget nothing."""
_AXES = 3
# Contexts that start anew in each pass: bits by the network's logit, local contexts.
_PASS_CONTEXTS = _CONFIDENCE_BINS + sum(SIZES)
_LOCAL_FIRST = _CONFIDENCE_BINS + np.cumsum([0, *SIZES[:-1]])[:, None]
_NETWORK_INPUTS = 2 + len(SIZES)
# Weights of the network's logit, confidence, local contexts, planes of three axes; 2**-16.
_START = np.array([65536, 32768] + [13107] * len(SIZES) + [39322] * _AXES, dtype=np.int64)
# 2**26 is a curvature of one (logits in 1/128, p(1-p) in 2**-12). The bound keeps the weights moving.
_CURVATURE_START = 20 << 26
_CURVATURE_MAX = 300 << 26
# Half a Newton step, in the units of weights, gradient and curvature; at most 0.05 of a weight an update.
_STEP = 8 * 65536 // 2
_STEP_MAX = 3277
_WEIGHT_MAX = 4 << 16
# Fields of 27, 12 and 12 bits hold the sums of a block in one exact float64.
_EXPECTED_WIDTH = 27
_EXPECTED_MASK = (1 << _EXPECTED_WIDTH) - 1
_ONES_FIELD = float(1 << _EXPECTED_WIDTH)
_BITS_SHIFT = _EXPECTED_WIDTH + 12
_BITS_MASK = (1 << _BITS_SHIFT) - 1
_BITS_FIELD = float(1 << _BITS_SHIFT)
_CURVATURE_SHIFT = 2.0**-20
_LOG_BITS = 11


def _log_table() -> np.ndarray:
    """Natural logarithm, int64 in 2**-10 nats, of the mantissas 0.5 … 1 in steps of 2**-12."""
    steps = np.arange(1 << _LOG_BITS) + 0.5
    return np.rint(1024 * np.log(0.5 + steps / (2 << _LOG_BITS))).astype(np.int64)


_PROBABILITY_FLOAT = PROBABILITY.astype(np.float64)
_LOG = _log_table()
_LN2 = 710
"""Natural logarithm of 2 in 2**-10 nats, rounded."""


def integer_log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of positive integers (float64, exact), int64 in 2**-10 nats."""
    # The bits of a float64: 11 of exponent, then the mantissa without its leading one.
    bits = x.view(np.int64)
    return _LOG[bits >> (52 - _LOG_BITS) & ((1 << _LOG_BITS) - 1)] + ((bits >> 52) - 1022) * _LN2


def block_size(nodes: int, in_tile: bool) -> int:
    """Bits between two updates for a level of so many nodes, of a whole cloud or of one tile.

    Frequent updates compress better and cost time: levels of many nodes, which
    take most of the time, have more to learn from and get the larger blocks. What
    takes the time of a tile is the large cloud that it is a small part of.
    """
    weight = _TILE_WEIGHT if in_tile else 1
    return 64 << int(np.searchsorted([2048, 6144, 16_384, 131_072], nodes * weight, side="right"))


def _probability(logits: np.ndarray) -> np.ndarray:
    """P(1) · 2**16 for logits (integers in float64, any size)."""
    bounded = np.minimum(np.maximum(logits, -LOGIT_MAX), LOGIT_MAX)
    return _PROBABILITY_FLOAT[bounded.astype(np.int64) + LOGIT_MAX]


def corrections(sums: np.ndarray) -> np.ndarray:
    """Corrections, in units of logits, of contexts with counts (3, m): ones, ones expected, bits."""
    ones, expected, bits = sums
    odds = np.empty((4, len(ones)))
    odds[0], odds[1], odds[2], odds[3] = ones, bits - expected, expected, bits - ones
    odds += _PRIOR
    log = integer_log(odds)
    correction = (log[0] + log[1] - log[2] - log[3]) // (1024 // LOGIT_UNIT)
    return np.minimum(np.maximum(correction, -_CORRECTION_MAX), _CORRECTION_MAX).astype(np.float64)


class Calibration:
    """Adaptive state of one layer; encoder and decoder drive it with the same bits.

    Args:
        coords: int32 (n, 3), coordinates of the nodes whose child bits are coded, in coding order.
    """

    def __init__(self, coords: np.ndarray) -> None:
        planes = [np.unique(coords[:, axis], return_inverse=True)[1] for axis in range(_AXES)]
        self._planes = np.stack(planes).astype(np.int64)
        self._sizes = self._planes.max(axis=1, initial=0) + 1
        # Counts (ones, ones expected, bits) of the pass's contexts, and of both halves of each axis's planes.
        self._recent = np.zeros((3, _PASS_CONTEXTS))
        self._plane_counts = np.zeros((3, 2 * int(self._sizes.sum())))
        self._first_plane = 2 * np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self._blocks: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._weights = _START.astype(np.int64)

    def start_pass(self, octant: int, local: np.ndarray) -> None:
        """Begin the pass of an octant: its planes are the halves of the nodes that it lies in.

        Args:
            octant: 0…7.
            local: int64 (len(SIZES), n), the local contexts of its bits, in coding order.
        """
        self._local = local + _LOCAL_FIRST
        self._recent[:] = 0
        self._curvature = np.full(len(_START), _CURVATURE_START, dtype=np.int64)
        halves = np.array([octant >> (_AXES - 1 - axis) & 1 for axis in range(_AXES)])
        self._offsets = self._first_plane + halves * self._sizes

    def _block(self, nodes: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Planes of a block: keys in its table (3, k), and of each axis the lowest and their number."""
        if nodes.start not in self._blocks:
            planes = self._planes[:, nodes]
            lowest = planes.min(axis=1)
            spans = planes.max(axis=1) - lowest + 1
            first = _PASS_CONTEXTS + np.cumsum(spans) - spans
            self._blocks[nodes.start] = planes + (first - lowest)[:, None], lowest, spans
        return self._blocks[nodes.start]

    def predict(self, nodes: slice, chosen: np.ndarray | None, logits: np.ndarray) -> np.ndarray:
        """P(1) · 2**16, uint16 (k,), of a block of at most MAX_BLOCK nodes.

        Args:
            nodes: the nodes of the block, in coding order; the blocks are the same in each pass.
            chosen: indices within the block of the nodes that are coded; None for all.
            logits: the network's, float64 (k,) holding integers, of the coded nodes.
        """
        planes, lowest, spans = self._block(nodes)
        begins = (self._offsets + lowest).tolist()
        ranges = [slice(begin, begin + span) for begin, span in zip(begins, spans.tolist(), strict=True)]
        self._touched = [self._recent, *(self._plane_counts[:, part] for part in ranges)]
        correction = corrections(np.concatenate(self._touched, axis=1))
        self._keys = keys = np.empty((len(_START) - 1, len(logits)), dtype=np.int64)
        bins = np.maximum(logits + 8 * LOGIT_UNIT, 0) // (LOGIT_UNIT // 2)
        keys[0] = np.minimum(bins, _CONFIDENCE_BINS - 1)
        local = self._local[:, nodes]
        keys[1 : _NETWORK_INPUTS - 1] = local if chosen is None else local[:, chosen]
        keys[_NETWORK_INPUTS - 1 :] = planes if chosen is None else planes[:, chosen]
        self._inputs = inputs = np.empty((len(_START), len(logits)))
        inputs[0] = logits
        np.take(correction, keys, out=inputs[1:])
        # Rows: the network alone, with the contexts of the pass, with the planes too.
        mixes = np.zeros((3, len(_START)))
        mixes[0, 0] = _ONE
        mixes[1, :_NETWORK_INPUTS] = self._weights[:_NETWORK_INPUTS]
        mixes[2] = self._weights
        self._probabilities = _probability(np.floor((mixes @ inputs) * (1 / _ONE)))
        return self._probabilities[2].astype(np.uint16)

    def update(self, bits: np.ndarray) -> None:
        """Learn from the bits, uint8 (k,), of the block that was predicted last."""
        if not len(bits):
            return
        network, without_planes, mixed = self._probabilities
        # One pass over the keys sums three fields at once: expected ones, ones, and bits.
        came = bits * _ONES_FIELD + _BITS_FIELD
        fields = np.empty(self._keys.shape)
        fields[: _NETWORK_INPUTS - 1] = came + network
        fields[_NETWORK_INPUTS - 1 :] = came + without_planes
        size = sum(part.shape[1] for part in self._touched)
        sums = np.bincount(self._keys.ravel(), fields.ravel(), minlength=size).astype(np.int64)
        counts = np.empty((3, size))
        counts[0] = (sums & _BITS_MASK) >> _EXPECTED_WIDTH << PRECISION
        counts[1] = sums & _EXPECTED_MASK
        counts[2] = sums >> _BITS_SHIFT << PRECISION
        # Blocks follow the Morton order: what is near in the stream is near in space, so the past fades.
        self._recent -= np.floor(self._recent * (1 / _MEMORY))
        first = 0
        for part in self._touched:
            part += counts[:, first : first + part.shape[1]]
            first += part.shape[1]
        error = bits * _ONE - mixed
        variance = np.floor(mixed * (_ONE - mixed) * _CURVATURE_SHIFT)
        gradient = (self._inputs @ error).astype(np.int64)
        self._curvature += (np.square(self._inputs) @ variance).astype(np.int64)
        np.minimum(self._curvature, _CURVATURE_MAX, out=self._curvature)
        step = gradient * _STEP // self._curvature
        self._weights += np.minimum(np.maximum(step, -_STEP_MAX), _STEP_MAX)
        np.minimum(np.maximum(self._weights, -_WEIGHT_MAX), _WEIGHT_MAX, out=self._weights)
