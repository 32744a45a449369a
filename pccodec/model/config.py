"""Shape of a model: what its weight file must match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LATENT_LEVELS = (3, 2, 1)
"""Levels that carry latent ranks, coarse to fine; ``G_{l-1}`` follows the ranks of level ``l``."""

LIMIT = 8
"""Rounded ranks are clipped to -LIMIT…LIMIT."""


@dataclass(frozen=True)
class ModelConfig:
    """Hyperparameters of the autoencoder.

    Attributes:
        channels: features per node in the synthesis transform, by level.
        blocks: residual blocks after the latent is added, by level.
        ranks: latent ranks K_l at levels 3, 2 and 1.
        draft_blocks, draft_inner: messages between predicted nodes of level 1, and their channels.
        analysis_channels: features per node in the analysis transform.
        analysis_blocks: residual blocks in the analysis transform.
    """

    channels: dict[int, int] = field(default_factory=lambda: {3: 64, 2: 48, 1: 32})
    blocks: dict[int, int] = field(default_factory=lambda: {3: 3, 2: 2, 1: 1})
    ranks: dict[int, int] = field(default_factory=lambda: {3: 4, 2: 2, 1: 1})
    draft_blocks: int = 2
    draft_inner: int = 16
    analysis_channels: int = 64
    analysis_blocks: int = 2

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        """From :meth:`to_json`'s values (JSON turns the integer keys into strings)."""
        found: dict[str, Any] = {
            name: {int(level): int(number) for level, number in values[name].items()}
            for name in ("channels", "blocks", "ranks")
        }
        for name in ("draft_blocks", "draft_inner", "analysis_channels", "analysis_blocks"):
            # Models before dense5 have no draft network; what else they hold can still be read.
            if name in values:
                found[name] = int(values[name])
        return cls(**found)
