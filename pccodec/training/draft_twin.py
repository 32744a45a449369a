"""Float twin of the network for predicted nodes of level 1 (:mod:`pccodec.model.draft`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.config import ModelConfig
from pccodec.model.draft import DRAFT_LEVEL
from pccodec.model.occupancy import LOGIT_UNIT
from pccodec.model.stream import CONDITION_UNIT, CONDITIONS
from pccodec.sparse.integer import ACTIVATION_UNIT
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.quantization import QuantLinear
from pccodec.training.stream_twin import (
    Activation,
    LevelInput,
    MessageTwin,
    enter,
    export_layers,
    inherit,
    into,
    to_logits,
)


class DraftTwin(nn.Module):
    """Twin of the draft network.

    Args:
        config: shape of the networks.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.channels[DRAFT_LEVEL]
        self.occupancy = QuantLinear(KERNEL, channels)
        nn.init.normal_(self.occupancy.weight, std=(1.0 / KERNEL) ** 0.5)
        self.conditions = QuantLinear(CONDITIONS, channels, bias=False)
        self.messages = nn.ModuleList(
            MessageTwin(channels, config.draft_inner) for _ in range(config.draft_blocks)
        )
        self.leave, self.wide = Activation(), Activation()
        self.hidden = QuantLinear(channels, 2 * channels)
        self.logits = QuantLinear(2 * channels, 8)
        self.descend = nn.ModuleList(
            QuantLinear(config.channels[DRAFT_LEVEL + 1], channels) for _ in range(8)
        )

    def set_units(self, unit: float) -> None:
        """Tell all layers the steps of their inputs and outputs.

        Args:
            unit: steps in 1.0 of the activations of level 2.
        """
        into(self.occupancy, 1.0, ACTIVATION_UNIT)
        into(self.conditions, CONDITION_UNIT, ACTIVATION_UNIT)
        for message in self.messages:
            assert isinstance(message, MessageTwin)
            message.set_units()
        into(self.hidden, self.leave.unit, self.wide.unit)
        into(self.logits, self.wide.unit, LOGIT_UNIT)
        for layer in self.descend:
            assert isinstance(layer, QuantLinear)
            into(layer, unit, ACTIVATION_UNIT)

    def inherit(self, features: Tensor, node: Tensor, octant: Tensor) -> Tensor:
        """Stream (k, C) that nodes inherit from level 2, given parents' index and octant, int64 (k,)."""
        return inherit(self.descend, features, node, octant)

    def forward(self, level: LevelInput, dtype: torch.dtype) -> Tensor:
        """Occupancy logits of the children, fp32 (n, 8); products in ``dtype``."""
        stream = enter(self.occupancy, self.conditions, level, dtype)
        for message in self.messages:
            stream = message(stream, level.neighbors, dtype)
        return to_logits(self.logits(self.wide(self.hidden(self.leave(stream).to(dtype)))))

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer network's tensors."""
        layers = {
            "occupancy": self.occupancy,
            "conditions": self.conditions,
            "hidden": self.hidden,
            "logits": self.logits,
            **{f"descend.{o}": layer for o, layer in enumerate(self.descend)},
        }
        out = {"leave.bits": self.leave.bits.cpu().numpy(), **export_layers(layers)}
        for index, message in enumerate(self.messages):
            assert isinstance(message, MessageTwin)
            out |= {f"messages.{index}.{key}": value for key, value in message.tensors().items()}
        return out
