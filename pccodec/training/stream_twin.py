"""Float twins of the parts of the networks that upsample (:mod:`pccodec.model.stream`).

Weights and activations are rounded as the integer network rounds them, with straight-through
gradients. In fp32 every operation is exact, so that the outputs equal the integer network's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.probability import LOGIT_MAX, LOGIT_UNIT
from pccodec.model.stream import CONDITION_UNIT, STREAM_BITS, STREAM_MAX
from pccodec.sparse.integer import ACTIVATION_MAX, ACTIVATION_UNIT
from pccodec.training.quantization import QuantConv, QuantLinear, export, rounds

_STREAM_UNIT = float(1 << STREAM_BITS)


class _Steps(torch.autograd.Function):
    """Rounds to multiples of 1/unit between two bounds, straight through inside them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: float, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high).mul_(unit).add_(0.5).floor_().mul_(1.0 / unit)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grads[0], x, *ctx.bounds), None, None, None


def to_stream(x: Tensor) -> Tensor:
    """Rounded and bounded to what the stream holds, fp32."""
    if not rounds():
        return x.float()
    bound = STREAM_MAX / _STREAM_UNIT
    out: Tensor = _Steps.apply(x.float(), _STREAM_UNIT, -bound, bound)
    return out


class Activation(nn.Module):
    """ReLU in steps of ``2**-bits``, at most ACTIVATION_MAX of them.

    The step is not learned but set to the finest that holds what passes (:meth:`fit`).
    """

    bits: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bits", torch.tensor(ACTIVATION_UNIT.bit_length() - 1, dtype=torch.int8))
        self.watching = False
        self.largest = 0.0
        self.read_unit()

    def read_unit(self) -> None:
        """Set ``unit``, the steps in 1.0, by ``bits``: asking a device in every forward pass is slow."""
        self.unit = 2.0 ** int(self.bits)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape and dtype in and out."""
        if self.watching:
            self.largest = max(self.largest, float(x.detach().max()))
        if self.watching or not rounds():
            return torch.relu(x)
        out: Tensor = _Steps.apply(x, self.unit, 0.0, ACTIVATION_MAX / self.unit)
        return out

    def fit(self) -> None:
        """Take the finest step with which the largest input seen while ``watching`` still fits."""
        if not self.watching or not self.largest:
            return
        bits = math.floor(math.log2(ACTIVATION_MAX / max(self.largest, 1e-3)))
        self.bits.fill_(max(0, min(STREAM_BITS - 1, bits)))
        self.read_unit()
        self.watching, self.largest = False, 0.0


def to_logits(x: Tensor) -> Tensor:
    """Rounded and bounded to what logits are, fp32."""
    bound = LOGIT_MAX / LOGIT_UNIT
    out: Tensor = _Steps.apply(x.float(), float(LOGIT_UNIT), -bound, bound)
    return out


def into(layer: QuantLinear | QuantConv, unit_in: float, unit_out: float) -> QuantLinear | QuantConv:
    """The layer with the units of its input and output told: steps in 1.0."""
    layer.gain, layer.bias_gain = unit_out / unit_in, unit_out
    return layer


def export_layers(layers: Mapping[str, nn.Module]) -> dict[str, np.ndarray]:
    """Layers as integers, the names of their tensors behind those of the layers."""
    out: dict[str, np.ndarray] = {}
    for name, layer in layers.items():
        integers = export(cast(QuantLinear | QuantConv, layer))
        out |= {f"{name}.{key}": value for key, value in integers.items()}
    return out


class BlockTwin(nn.Module):
    """Twin of a block that adds what neighbours tell: stream fp32 (n, C) in and out.

    Args:
        first: from a node's activations to what its neighbours hear of it.
        second: the 3x3x3 convolution that hears it.
    """

    def __init__(self, first: QuantLinear | QuantConv, second: QuantConv) -> None:
        super().__init__()
        self.enter, self.inner = Activation(), Activation()
        self.first, self.second = first, second
        nn.init.zeros_(self.second.weight)

    def set_units(self) -> None:
        """Tell the layers the steps of the activations."""
        into(self.first, self.enter.unit, self.inner.unit)
        into(self.second, self.inner.unit, ACTIVATION_UNIT)

    def forward(self, stream: Tensor, neighbors: Tensor, dtype: torch.dtype) -> Tensor:
        """Products in ``dtype`` over a map int32 (n, 27)."""
        entered = self.enter(stream).to(dtype)
        told = self.first(entered, neighbors) if isinstance(self.first, QuantConv) else self.first(entered)
        return to_stream(stream + to_stream(self.second(self.inner(told), neighbors)))

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer block's tensors."""
        layers = {"first": self.first, "second": self.second}
        return {"enter.bits": self.enter.bits.cpu().numpy(), **export_layers(layers)}


class ResidualTwin(BlockTwin):
    """Twin of :class:`pccodec.model.stream.Residual`."""

    def __init__(self, channels: int) -> None:
        super().__init__(QuantConv(channels, channels), QuantConv(channels, channels))


class MessageTwin(BlockTwin):
    """Twin of :class:`pccodec.model.stream.Message`."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__(QuantLinear(channels, inner), QuantConv(inner, channels))


@dataclass
class LevelInput:
    """What a level network is given: n nodes.

    Attributes:
        neighbors: int32 (n, 27), the neighbour map.
        conditions: (n, CONDITIONS), integers in CONDITION_UNIT.
        inherited: stream (n, C) from the parents, or None at the first level.
    """

    neighbors: Tensor
    conditions: Tensor
    inherited: Tensor | None


class NetworkTwin(nn.Module, ABC):
    """What the twins of all networks that upsample share: how they begin, predict, and are exported.

    Attributes:
        occupancy, conditions: make the stream (:class:`pccodec.model.stream.Entrance`).
        leave, wide, hidden, logits: make the logits (:class:`pccodec.model.stream.ChildLogits`).
        descend: one layer an octant (:class:`pccodec.model.stream.Descent`).
    """

    occupancy: QuantLinear
    conditions: QuantLinear
    leave: Activation
    wide: Activation
    hidden: QuantLinear
    logits: QuantLinear
    descend: nn.ModuleList

    @abstractmethod
    def blocks(self) -> Mapping[str, BlockTwin]:
        """The blocks between, by name."""

    def layers(self) -> dict[str, nn.Module]:
        """All layers that are not in blocks, by name."""
        return {
            "occupancy": self.occupancy,
            "conditions": self.conditions,
            "hidden": self.hidden,
            "logits": self.logits,
            **{f"descend.{octant}": layer for octant, layer in enumerate(self.descend)},
        }

    def tell_units(self, descends_from: float) -> None:
        """Tell all shared layers the steps of their inputs and outputs.

        Args:
            descends_from: steps in 1.0 of the activations that children inherit from.
        """
        for block in self.blocks().values():
            block.set_units()
        into(self.occupancy, 1.0, ACTIVATION_UNIT)
        into(self.conditions, CONDITION_UNIT, ACTIVATION_UNIT)
        into(self.hidden, self.leave.unit, self.wide.unit)
        into(self.logits, self.wide.unit, LOGIT_UNIT)
        for layer in self.descend:
            assert isinstance(layer, QuantLinear)
            into(layer, descends_from, ACTIVATION_UNIT)

    def begin(self, level: LevelInput, dtype: torch.dtype) -> Tensor:
        """Stream fp32 (n, C): which neighbours exist, the conditions, and what is inherited."""
        present = (level.neighbors < len(level.neighbors)).to(dtype)
        told = (level.conditions / CONDITION_UNIT).to(dtype)
        stream = to_stream(self.occupancy(present) + self.conditions(told))
        return stream if level.inherited is None else to_stream(stream + level.inherited)

    def predict(self, stream: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Occupancy logits of the children, fp32 (n, 8), and activations (n, C)."""
        features = self.leave(stream).to(dtype)
        return to_logits(self.logits(self.wide(self.hidden(features)))), features

    def inherit(self, features: Tensor, node: Tensor, octant: Tensor) -> Tensor:
        """Stream (k, C') that children inherit, given their parents' index and octant, int64 (k,)."""
        every = torch.stack([layer(features) for layer in self.descend], dim=1).flatten(0, 1)
        return to_stream(every.index_select(0, node * 8 + octant))

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer network's tensors."""
        out = {"leave.bits": self.leave.bits.cpu().numpy(), **export_layers(self.layers())}
        for name, block in self.blocks().items():
            out |= {f"{name}.{key}": value for key, value in block.tensors().items()}
        return out
