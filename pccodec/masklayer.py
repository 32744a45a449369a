"""MaskLayer: features ordered by importance, so that any prefix of them is useful.

After Royen et al., "MaskLayer: Enabling scalable deep learning solutions by
training embedded feature sets", Neural Networks 137 (2021) 43-53. The layer
keeps the first ``m`` of ``K`` features and zeroes the rest; in training ``m`` is
drawn anew each step, at inference it is chosen. The authors published no code;
the formulas of the gradient rescaling and of the masked optimizer are ours.

This module knows nothing of point clouds and needs torch alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class _Rescale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return grads[0] * factor.to(grads[0].dtype), None


def prefix_mask(features: int, active: int | Tensor, device: torch.device | None = None) -> Tensor:
    """Mask of the first ``active`` of ``features`` features.

    Args:
        features: K.
        active: m in 0…K, or int64 (n,) with one m a sample.

    Returns:
        bool (K,), or (n, K) for a tensor of prefixes.
    """
    index = torch.arange(features, device=device)
    if isinstance(active, Tensor):
        return index < active[:, None]
    return index < active


class MaskLayer(nn.Module):
    """Keeps a prefix of the features in its last axis.

    Args:
        features: K, the number of features.
        distribution: probability (K+1,) of each prefix length 0…K in training;
            uniform if not given.
        rescale: balancing gradient rescaling. Feature ``i`` is active with
            ``p_i = P(m > i)``, so its expected gradient carries the factor
            ``p_i``; backward divides it by ``p_i``, and late features learn as
            fast as early ones.
    """

    active_probability: Tensor
    distribution: Tensor

    def __init__(
        self, features: int, distribution: Iterable[float] | None = None, rescale: bool = True
    ) -> None:
        super().__init__()
        given = list(distribution) if distribution is not None else [1.0] * (features + 1)
        if len(given) != features + 1:
            raise ValueError(f"{features} features have {features + 1} prefixes, not {len(given)}")
        weights = torch.tensor(given)
        self.features = features
        self.rescale = rescale
        self.register_buffer("distribution", weights / weights.sum(), persistent=False)
        tail = self.distribution.flip(0).cumsum(0).flip(0)[1:]
        self.register_buffer("active_probability", tail, persistent=False)

    def draw(self, generator: torch.Generator | None = None) -> int:
        """A prefix length 0…K from the training distribution."""
        return int(torch.multinomial(self.distribution, 1, generator=generator))

    def forward(self, features: Tensor, active: int | Tensor) -> Tensor:
        """Features (…, K) with all but the first ``active`` zeroed.

        ``active`` is one prefix for the batch, or int64 (n,) with one for each
        of the n rows.
        """
        if self.rescale and self.training:
            features = _Rescale.apply(features, 1.0 / self.active_probability.clamp_min(1e-3))
        mask = prefix_mask(self.features, active, features.device)
        return features * mask.to(features.dtype)


class MaskedOptimizer:
    """Wraps an optimizer; masked features keep their parameters and moments in a step.

    Zero gradients are not enough for that: Adam would go on moving a masked
    feature by its momentum, let the moments decay, and apply weight decay.

    Args:
        optimizer: any torch optimizer whose state holds tensors shaped like the
            parameter (Adam, AdamW, SGD with momentum, …).
        layers: for the name of each MaskLayer, ``(parameter, axis)`` pairs: the
            axis of the parameter that runs over the layer's K features, as the
            rows of the linear layer that makes them (axis 0) or the columns of
            the one that reads them (axis 1).
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        layers: Mapping[str, Iterable[tuple[Tensor, int]]],
    ) -> None:
        self.optimizer = optimizer
        self.layers = {name: list(pairs) for name, pairs in layers.items()}

    def step(self, active: Mapping[str, int]) -> None:
        """One step in which layer ``name`` has only its first ``active[name]`` features."""
        kept: list[tuple[Tensor, Tensor]] = []
        for name, pairs in self.layers.items():
            for parameter, axis in pairs:
                tensors = [parameter.data]
                for value in self.optimizer.state.get(parameter, {}).values():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        tensors.append(value)
                for tensor in tensors:
                    masked = tensor.narrow(axis, active[name], tensor.shape[axis] - active[name])
                    kept.append((masked, masked.clone()))
        self.optimizer.step()
        for masked, before in kept:
            masked.copy_(before)
