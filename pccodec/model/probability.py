"""Probabilities of integer logits, as one table of integers for all that codes or predicts child bits."""

from __future__ import annotations

import numpy as np

LOGIT_UNIT = 128
"""Logits are integers in units of 1/128 nat."""
LOGIT_MAX = 2047
PRECISION = 16


def _probability_table() -> np.ndarray:
    """P(1) · 2**PRECISION, int32, for logits -LOGIT_MAX…LOGIT_MAX."""
    logits = np.arange(-LOGIT_MAX, LOGIT_MAX + 1) / LOGIT_UNIT
    return np.clip(np.rint((1 << PRECISION) / (1.0 + np.exp(-logits))), 1, 65535).astype(np.int32)


PROBABILITY = _probability_table()
"""Entry ``LOGIT_MAX + z`` belongs to the logit ``z`` in 1/LOGIT_UNIT nat."""


def probability(logits: np.ndarray) -> np.ndarray:
    """P(1) · 2**PRECISION, int32, of integer logits of any size and shape."""
    return np.take(PROBABILITY, np.add(logits, LOGIT_MAX, dtype=np.intp), mode="clip")


def expected_ones(logits: np.ndarray) -> int:
    """How many ones integer logits make expect, rounded."""
    total = int(probability(logits).sum(dtype=np.int64))
    return (total + (1 << PRECISION - 1)) >> PRECISION
