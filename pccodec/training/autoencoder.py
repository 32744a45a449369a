"""The autoencoder that is trained: float twins of the codec's networks.

The synthesis transform's weights and activations are rounded as the integer
network rounds them (:mod:`pccodec.model.synthesis`), with straight-through
gradients. In fp32 every operation of the twin is exact, so that its outputs
equal the integer network's; training runs it in bf16, whose products of rounded
values are exact too and whose sums are a little noisy. The analysis transform
runs in floats in the codec as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pccodec.masklayer import MaskLayer, prefix_mask
from pccodec.model.analysis import DESCRIPTOR
from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.model.occupancy import LOGIT_MAX, LOGIT_UNIT
from pccodec.model.synthesis import CONDITION_UNIT, CONDITIONS, STREAM_BITS, STREAM_MAX
from pccodec.sparse.conv import SparseConv
from pccodec.sparse.integer import ACTIVATION_MAX, ACTIVATION_UNIT
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.quantization import QuantConv, QuantLinear, export, rounds

_STREAM_UNIT = float(1 << STREAM_BITS)


class Linear(nn.Linear):
    """Linear layer that computes in the dtype of its input (bf16 in training)."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_features) to (n, out_features)."""
        assert self.bias is not None
        return functional.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(relu(x))))`` between the nodes of a level, (n, channels) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SparseConv(channels, channels)
        self.second = SparseConv(channels, channels)
        # Starting as the identity lets deep stacks learn from the first step.
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor, neighbors: Tensor) -> Tensor:
        """Features (n, channels) and neighbour map int32 (n, 27)."""
        inner = self.first(torch.relu(features), neighbors)
        return features + self.second(torch.relu(inner), neighbors)


class LevelAnalysis(nn.Module):
    """Latent of one level: descriptors (n, d) and context (n, C) to y (n, K)."""

    def __init__(self, inputs: int, context: int, ranks: int, config: ModelConfig) -> None:
        super().__init__()
        width = config.analysis_channels
        self.shape = nn.Sequential(Linear(inputs, width), nn.ReLU(), Linear(width, width))
        self.context = Linear(context, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(config.analysis_blocks))
        self.latent = Linear(width, ranks)
        # Ranks that start wide survive the first rounding; narrow ones die at zero.
        nn.init.orthogonal_(self.latent.weight, gain=2.5)

    def forward(self, shape: Tensor, context: Tensor, neighbors: Tensor) -> Tensor:
        """y, fp32 (n, K), before rounding."""
        features = self.shape(shape) + self.context(context)
        for block in self.blocks:
            features = block(features, neighbors)
        return self.latent(torch.relu(features)).float()


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


def _to_stream(x: Tensor) -> Tensor:
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


def _into(layer: QuantLinear | QuantConv, unit_in: float, unit_out: float) -> QuantLinear | QuantConv:
    """The layer with the units of its input and output told: steps in 1.0."""
    layer.gain, layer.bias_gain = unit_out / unit_in, unit_out
    return layer


class ResidualTwin(nn.Module):
    """Twin of the integer residual: stream fp32 (n, C) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.inner = Activation(), Activation()
        self.first = QuantConv(channels, channels)
        self.second = QuantConv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def set_units(self) -> None:
        """Tell the convolutions the steps of the activations."""
        _into(self.first, self.enter.unit, self.inner.unit)
        _into(self.second, self.inner.unit, ACTIVATION_UNIT)

    def forward(self, stream: Tensor, neighbors: Tensor, dtype: torch.dtype) -> Tensor:
        """Convolutions in ``dtype`` over a map int32 (n, 27)."""
        inner = self.inner(self.first(self.enter(stream).to(dtype), neighbors))
        return _to_stream(stream + _to_stream(self.second(inner, neighbors)))

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer residual's tensors."""
        layers = {"first": self.first, "second": self.second}
        return {"enter.bits": self.enter.bits.cpu().numpy(), **_export(layers)}


def _export(layers: Mapping[str, nn.Module]) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for name, layer in layers.items():
        integers = export(cast(QuantLinear | QuantConv, layer))
        out |= {f"{name}.{key}": value for key, value in integers.items()}
    return out


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


class LevelSynthesis(nn.Module):
    """Twin of the network of one level.

    Args:
        channels: features a node, C.
        child_channels: features a child in the next finer level, or 0 for voxels.
        ranks: latent ranks K.
        blocks: residual blocks after the latent.
        prefixes: training distribution of the mask's prefix length, (K+1,).
    """

    def __init__(
        self, channels: int, child_channels: int, ranks: int, blocks: int, prefixes: list[float] | None = None
    ) -> None:
        super().__init__()
        self.occupancy = QuantLinear(KERNEL, channels)
        nn.init.normal_(self.occupancy.weight, std=(1.0 / KERNEL) ** 0.5)
        self.conditions = QuantLinear(CONDITIONS, channels, bias=False)
        self.context = ResidualTwin(channels)
        self.mask = MaskLayer(ranks, prefixes)
        self.latent = QuantLinear(ranks, channels)
        # A rank that was sent as zero says more than one that was not sent.
        self.sent = QuantLinear(ranks, channels, bias=False)
        self.mix = nn.ModuleList(ResidualTwin(channels) for _ in range(blocks))
        self.leave, self.wide = Activation(), Activation()
        self.hidden = QuantLinear(channels, 2 * channels)
        self.logits = QuantLinear(2 * channels, 8)
        self.descend = nn.ModuleList(
            QuantLinear(channels, child_channels) for _ in range(8 if child_channels else 0)
        )
        self.set_units()

    def _residuals(self) -> dict[str, ResidualTwin]:
        blocks = {f"mix.{i}": block for i, block in enumerate(self.mix) if isinstance(block, ResidualTwin)}
        return {"context": self.context, **blocks}

    def set_units(self) -> None:
        """Tell all layers the steps of their inputs and outputs."""
        for residual in self._residuals().values():
            residual.set_units()
        _into(self.occupancy, 1.0, ACTIVATION_UNIT)
        _into(self.conditions, CONDITION_UNIT, ACTIVATION_UNIT)
        _into(self.latent, 1.0, ACTIVATION_UNIT)
        _into(self.sent, 1.0, ACTIVATION_UNIT)
        _into(self.hidden, self.leave.unit, self.wide.unit)
        _into(self.logits, self.wide.unit, LOGIT_UNIT)
        for layer in self.descend:
            assert isinstance(layer, QuantLinear)
            _into(layer, self.leave.unit, ACTIVATION_UNIT)

    def embed(self, level: LevelInput, dtype: torch.dtype) -> Tensor:
        """Context stream, fp32 (n, C): all that is known about the nodes before the latent."""
        present = (level.neighbors < len(level.neighbors)).to(dtype)
        told = (level.conditions / CONDITION_UNIT).to(dtype)
        stream = _to_stream(self.occupancy(present) + self.conditions(told))
        if level.inherited is not None:
            stream = _to_stream(stream + level.inherited)
        out: Tensor = self.context(stream, level.neighbors, dtype)
        return out

    def forward(
        self, context: Tensor, neighbors: Tensor, y_hat: Tensor | None, active: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """From context to predictions.

        Args:
            context: fp32 (n, C) from :meth:`embed`.
            neighbors: int32 (n, 27).
            y_hat: (n, K) latent, or None for none.
            active: ranks that count.
            dtype: of the products.

        Returns:
            Occupancy logits of the children (n, 8), fp32, and activations (n, C).
        """
        if y_hat is None:
            y_hat = context.new_zeros(len(context), self.mask.features)
        sent = prefix_mask(self.mask.features, active, context.device).expand(len(context), -1)
        latent = self.latent(self.mask(y_hat, active).to(dtype)) + self.sent(sent.to(dtype))
        stream = _to_stream(context + _to_stream(latent))
        for block in self.mix:
            stream = block(stream, neighbors, dtype)
        features = self.leave(stream).to(dtype)
        logits = self.logits(self.wide(self.hidden(features)))
        bound = LOGIT_MAX / LOGIT_UNIT
        return _Steps.apply(logits.float(), float(LOGIT_UNIT), -bound, bound), features

    def inherit(self, features: Tensor, node: Tensor, octant: Tensor) -> Tensor:
        """Stream (k, C') that children inherit, given their parents' index and octant, int64 (k,)."""
        every = torch.stack([descend(features) for descend in self.descend], dim=1).flatten(0, 1)
        return _to_stream(every.index_select(0, node * 8 + octant))

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer network's tensors."""
        layers = {
            "occupancy": self.occupancy,
            "conditions": self.conditions,
            "latent": self.latent,
            "sent": self.sent,
            "hidden": self.hidden,
            "logits": self.logits,
            **{f"descend.{o}": layer for o, layer in enumerate(self.descend)},
        }
        out = {"leave.bits": self.leave.bits.cpu().numpy(), **_export(layers)}
        for name, residual in self._residuals().items():
            out |= {f"{name}.{key}": value for key, value in residual.tensors().items()}
        return out


class Autoencoder(nn.Module):
    """Analysis (g_a) and synthesis (g_s) transforms of one configuration, by level.

    Args:
        config: shape of the networks.
        prefixes: for each latent level the training distribution (K+1,) of the
            number of active ranks; only training needs it.
    """

    def __init__(self, config: ModelConfig, prefixes: dict[int, list[float]] | None = None) -> None:
        super().__init__()
        self.config = config
        self.analyses, self.syntheses = nn.ModuleDict(), nn.ModuleDict()
        for level in LATENT_LEVELS:
            channels, ranks = config.channels[level], config.ranks[level]
            self.analyses[str(level)] = LevelAnalysis(DESCRIPTOR[level], channels, ranks, config)
            self.syntheses[str(level)] = LevelSynthesis(
                channels,
                config.channels.get(level - 1, 0),
                ranks,
                config.blocks[level],
                (prefixes or {}).get(level),
            )

    def analysis(self, level: int) -> LevelAnalysis:
        """The analysis transform of level 3, 2 or 1."""
        network = self.analyses[str(level)]
        assert isinstance(network, LevelAnalysis)
        return network

    def synthesis(self, level: int) -> LevelSynthesis:
        """The level network of level 3, 2 or 1."""
        network = self.syntheses[str(level)]
        assert isinstance(network, LevelSynthesis)
        return network

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's; the steps of the activations that come with it are told to the layers."""
        result = super().load_state_dict(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, Activation):
                module.read_unit()
        for level in LATENT_LEVELS:
            self.synthesis(level).set_units()
        return result

    def watch(self) -> None:
        """From now to :meth:`fit`, pass activations unrounded and remember the largest."""
        for module in self.modules():
            if isinstance(module, Activation):
                module.watching = True

    def fit(self) -> None:
        """Set the steps of all activations by what passed since :meth:`watch`."""
        for module in self.modules():
            if isinstance(module, Activation):
                module.fit()
        for level in LATENT_LEVELS:
            self.synthesis(level).set_units()

    @torch.no_grad()
    def tensors(self) -> dict[str, np.ndarray]:
        """The codec's networks as a model file holds them: ``analysis.*`` fp16, ``synthesis.*`` integers."""
        out = {}
        for level in LATENT_LEVELS:
            for name, value in self.analysis(level).state_dict().items():
                out[f"analysis.{level}.{name}"] = value.to(torch.float16).cpu().numpy()
            for name, integers in self.synthesis(level).tensors().items():
                out[f"synthesis.{level}.{name}"] = integers
        return out
