"""The autoencoder that is trained: float twins of the codec's networks.

The synthesis transform's weights and activations are rounded as the integer
network rounds them (:mod:`pccodec.model.synthesis`), with straight-through
gradients. In fp32 every operation of the twin is exact, so that its outputs
equal the integer network's; training runs it in bf16, whose products of rounded
values are exact too and whose sums are a little noisy. The analysis transform
runs in floats in the codec as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pccodec.masklayer import MaskLayer, prefix_mask
from pccodec.model.analysis import DESCRIPTOR
from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.model.draft import DRAFT_LEVEL
from pccodec.model.stream import CONDITIONS
from pccodec.sparse.conv import SparseConv
from pccodec.sparse.integer import ACTIVATION_UNIT
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.draft_twin import DraftTwin
from pccodec.training.quantization import QuantLinear
from pccodec.training.stream_twin import Activation, LevelInput, NetworkTwin, ResidualTwin, into, to_stream


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


class LevelSynthesis(NetworkTwin):
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

    def blocks(self) -> dict[str, ResidualTwin]:
        """The residual blocks, by name."""
        blocks = {"context": self.context, **{f"mix.{i}": block for i, block in enumerate(self.mix)}}
        return {name: block for name, block in blocks.items() if isinstance(block, ResidualTwin)}

    def layers(self) -> dict[str, nn.Module]:
        """As the base's, with those that read the latent."""
        return {**super().layers(), "latent": self.latent, "sent": self.sent}

    def set_units(self) -> None:
        """Tell all layers the steps of their inputs and outputs."""
        self.tell_units(self.leave.unit)
        into(self.latent, 1.0, ACTIVATION_UNIT)
        into(self.sent, 1.0, ACTIVATION_UNIT)

    def embed(self, level: LevelInput, dtype: torch.dtype) -> Tensor:
        """Context stream, fp32 (n, C): all that is known about the nodes before the latent."""
        out: Tensor = self.context(self.begin(level, dtype), level.neighbors, dtype)
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
        stream = to_stream(context + to_stream(latent))
        for block in self.mix:
            stream = block(stream, neighbors, dtype)
        return self.predict(stream, dtype)


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
        self.draft = DraftTwin(config)
        self._set_units()

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
        self._set_units()
        return result

    def _set_units(self) -> None:
        """Tell all layers the steps of their inputs and outputs."""
        for level in LATENT_LEVELS:
            self.synthesis(level).set_units()
        self.draft.tell_units(self.synthesis(DRAFT_LEVEL + 1).leave.unit)

    def watch(self, only: tuple[str, ...] = ()) -> None:
        """From now to :meth:`fit`, pass activations unrounded and remember the largest.

        Args:
            only: beginnings of the names of the activations; none: all.
        """
        for name, module in self.named_modules():
            if isinstance(module, Activation) and name.startswith(only or ""):
                module.watching = True

    def fit(self) -> None:
        """Set the steps of all activations by what passed since :meth:`watch`."""
        for module in self.modules():
            if isinstance(module, Activation):
                module.fit()
        self._set_units()

    @torch.no_grad()
    def tensors(self) -> dict[str, np.ndarray]:
        """The codec's networks as a model file holds them: ``analysis.*`` fp16, ``synthesis.*`` integers."""
        out = {}
        for level in LATENT_LEVELS:
            for name, value in self.analysis(level).state_dict().items():
                out[f"analysis.{level}.{name}"] = value.to(torch.float16).cpu().numpy()
            for name, integers in self.synthesis(level).tensors().items():
                out[f"synthesis.{level}.{name}"] = integers
        drafts = {f"synthesis.draft.{name}": integers for name, integers in self.draft.tensors().items()}
        return out | drafts
