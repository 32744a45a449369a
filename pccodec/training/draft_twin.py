"""Float twin of the network for predicted nodes of level 1 (:mod:`pccodec.model.draft`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pccodec.model.config import ModelConfig
from pccodec.model.draft import DRAFT_LEVEL
from pccodec.model.stream import CONDITIONS
from pccodec.sparse.neighbors import KERNEL
from pccodec.training.quantization import QuantLinear
from pccodec.training.stream_twin import Activation, LevelInput, MessageTwin, NetworkTwin


class DraftTwin(NetworkTwin):
    """Twin of the draft network; its nodes inherit from level 2.

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

    def blocks(self) -> dict[str, MessageTwin]:
        """The messages, by name."""
        blocks = {f"messages.{i}": block for i, block in enumerate(self.messages)}
        return {name: block for name, block in blocks.items() if isinstance(block, MessageTwin)}

    def forward(self, level: LevelInput, dtype: torch.dtype) -> Tensor:
        """Occupancy logits of the children, fp32 (n, 8); products in ``dtype``."""
        stream = self.begin(level, dtype)
        for message in self.messages:
            stream = message(stream, level.neighbors, dtype)
        logits, _ = self.predict(stream, dtype)
        return logits
