"""An optimizer that does not touch what is masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class MaskedOptimizer:
    """Wraps an optimizer; masked features keep their parameters and moments in a step.

    Zero gradients are not enough for that: Adam would go on moving a masked
    feature by its momentum, let the moments decay, and apply weight decay. With
    ``θ_i`` the parameters of feature ``i`` and ``s_i`` their state, a step is::

        θ_i, s_i ← update(θ_i, s_i, ∂L/∂θ_i)   if i < m, else unchanged

    Counters that a whole parameter shares, as Adam's number of steps, go on. With a
    prefix for each sample, ``m`` is the longest of the batch: masked is what no sample had.

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

    def zero_grad(self) -> None:
        """As the wrapped optimizer's."""
        self.optimizer.zero_grad()

    def step(self, active: Mapping[str, int | Tensor]) -> None:
        """One step in which layer ``name`` had only the first ``active[name]`` features.

        Args:
            active: prefix of each layer, or int64 (n,) with that of each sample
                (:attr:`pccodec.masklayer.MaskLayer.drawn`).
        """
        masked = [part for name, pairs in self.layers.items() for part in _beyond(pairs, active[name])]
        kept = [
            (part, part.clone())
            for parameter, axis, first in masked
            for part in self._parts(parameter, axis, first)
        ]
        fresh = [entry for entry in masked if not self.optimizer.state.get(entry[0])]
        self.optimizer.step()
        for parameter, axis, first in fresh:
            # State that this step made starts at zero, as if the masked features had had no step.
            for part in self._parts(parameter, axis, first)[1:]:
                part.zero_()
        for part, before in kept:
            part.copy_(before)

    def _parts(self, parameter: Tensor, axis: int, first: int) -> list[Tensor]:
        """Views of a parameter and of its state, from feature ``first`` on."""
        state = self.optimizer.state.get(parameter, {}).values()
        shaped = [value for value in state if isinstance(value, Tensor) and value.shape == parameter.shape]
        return [
            tensor.narrow(axis, first, tensor.shape[axis] - first) for tensor in (parameter.data, *shaped)
        ]


def _beyond(pairs: Iterable[tuple[Tensor, int]], active: int | Tensor) -> list[tuple[Tensor, int, int]]:
    """Parameter, axis and first masked feature of each pair."""
    longest = int(active.max()) if isinstance(active, Tensor) else active
    return [(parameter, axis, longest) for parameter, axis in pairs]
