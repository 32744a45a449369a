"""The autoencoder: analysis and synthesis transforms under one roof, saved as one set of tensors."""

from __future__ import annotations

from torch import nn

from pccodec.model.analysis import Analysis
from pccodec.model.config import ModelConfig
from pccodec.model.synthesis import Synthesis


class Autoencoder(nn.Module):
    """``analysis`` (g_a) and ``synthesis`` (g_s) of one configuration.

    Args:
        config: shape of the networks.
        prefixes: for each latent level the training distribution (K+1,) of the
            number of active ranks; only training needs it.
    """

    def __init__(self, config: ModelConfig, prefixes: dict[int, list[float]] | None = None) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config, prefixes)
