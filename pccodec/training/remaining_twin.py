"""Float twin of the network that expects all child bits to come at once (:mod:`pccodec.model.remaining`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pccodec.model.occupancy import PASSES
from pccodec.sparse.integer import ACTIVATION_UNIT
from pccodec.training.quantization import (
    QuantConv,
    activate,
    export_all,
    export_bias,
    linear,
    round_bias,
    to_logits,
)


class RemainingTwin(nn.Module):
    """The twin: weights for each number of known octants, 0 to 7.

    Args:
        hidden: channels of the context network's sums.
        message: channels that neighbours hear.
        mixed: channels after that.
    """

    def __init__(self, hidden: int = 64, message: int = 16, mixed: int = 64) -> None:
        super().__init__()
        self.hidden_bias = nn.Parameter(torch.zeros(PASSES, hidden))
        self.message = nn.ModuleList(linear(hidden, message) for _ in range(PASSES))
        self.own = nn.ModuleList(linear(hidden, mixed, bias=False) for _ in range(PASSES))
        self.around = nn.ModuleList(QuantConv(message, mixed) for _ in range(PASSES))
        self.deep = nn.ModuleList(linear(mixed, mixed) for _ in range(PASSES))
        self.logit = nn.ModuleList(to_logits(mixed, 8) for _ in range(PASSES))

    def forward(self, octants: int, sums: Tensor, neighbors: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits fp32 (n, 8) of all child bits; those of the first ``octants`` are of no meaning.

        Args:
            octants: how many octants are known.
            sums: (n, H), what :meth:`pccodec.training.geometry_twin.GeometryTwin.passes` knows then.
            neighbors: int32 (n, 27).
            dtype: of products; in fp32 they are those of the integer network, to the bit.
        """
        bias = round_bias(self.hidden_bias[octants], ACTIVATION_UNIT)
        hidden = activate((sums + bias).to(dtype))
        message = activate(self.message[octants](hidden))
        mixed = activate(self.own[octants](hidden) + self.around[octants](message, neighbors))
        logits: Tensor = self.logit[octants](activate(self.deep[octants](mixed)))
        return logits.float()

    def tensors(self) -> dict[str, np.ndarray]:
        """The integer networks' tensors, stacked; the first axis is ``m``."""
        out = {"hidden.bias": export_bias(self.hidden_bias, ACTIVATION_UNIT)}
        for name in ("message", "own", "around", "deep", "logit"):
            out.update(export_all(name, getattr(self, name)))
        return out
