"""How often each prefix length comes in training.

A distribution is a tensor (K+1,) that sums to 1; its entry ``m`` is the
probability ``q_m`` that the first ``m`` of ``K`` features are kept, m = 0…K.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def normalized(features: int, weights: Iterable[float]) -> Tensor:
    """The distribution float32 (K+1,) that is proportional to ``weights``.

    Raises:
        ValueError: not K+1 weights, one is negative or not finite, or all are zero.
    """
    values = torch.as_tensor(list(weights), dtype=torch.float64)
    if len(values) != features + 1:
        raise ValueError(f"{features} features have {features + 1} prefixes, not {len(values)}")
    if not torch.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError("weights of prefixes are finite, not negative, and not all zero")
    return (values / values.sum()).float()


def uniform(features: int, smallest: int = 1) -> Tensor:
    """q_m equal for m = smallest…K; float32 (K+1,)."""
    _check_smallest(features, smallest)
    return normalized(features, [float(m >= smallest) for m in range(features + 1)])


def geometric(features: int, ratio: float, smallest: int = 1) -> Tensor:
    """q_m ∝ ratio^(m − smallest) for m = smallest…K; float32 (K+1,).

    With ``ratio`` < 1 short prefixes come more often, as in nested dropout (Rippel
    et al., ICML 2014), where feature ``i`` is reached with probability ratio^i;
    the tail that would run beyond K is shared out over all lengths.

    Raises:
        ValueError: ``ratio`` is not positive.
    """
    _check_smallest(features, smallest)
    if ratio <= 0:
        raise ValueError(f"the ratio of a geometric distribution is positive, not {ratio}")
    return normalized(features, [0.0] * smallest + [ratio**m for m in range(features + 1 - smallest)])


def only(features: int, lengths: Sequence[int], weights: Sequence[float] | None = None) -> Tensor:
    """q_m for the given lengths alone, equal unless weighted; float32 (K+1,).

    Summed (:meth:`MaskLayer.prefixes`) these are the losses of Matryoshka
    representation learning (Kusupati et al., NeurIPS 2022).

    Raises:
        ValueError: a length is not in 0…K, stands twice, or has no weight.
    """
    if len(set(lengths)) != len(lengths) or not all(0 <= m <= features for m in lengths):
        raise ValueError(f"lengths are distinct numbers from 0 to {features}")
    if weights is not None and len(weights) != len(lengths):
        raise ValueError(f"{len(lengths)} lengths and {len(weights)} weights")
    given = [0.0] * (features + 1)
    for place, length in enumerate(lengths):
        given[length] = 1.0 if weights is None else weights[place]
    return normalized(features, given)


def active_probability(distribution: Tensor) -> Tensor:
    """p_i = P(m > i) = Σ_{m>i} q_m of each feature i = 0…K−1; (K,) from (K+1,)."""
    return distribution.flip(0).cumsum(0).flip(0)[1:]


def _check_smallest(features: int, smallest: int) -> None:
    if not 0 <= smallest <= features:
        raise ValueError(f"the smallest prefix of {features} features is 0 to {features}, not {smallest}")
