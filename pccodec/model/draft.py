"""Integer network for the nodes of ``X_1`` that were predicted themselves.

Which of them exist is uncertain, so that their children need not be predicted with the care that true
nodes deserve: neighbours hear few channels of each other, in a quarter of the operations of
:class:`pccodec.model.synthesis.LevelNetwork`.

    stream  = sum(occupied neighbours, conditions) + inherited
    message: stream + conv(act(sum(act(stream))))          a 3x3x3 convolution of few channels
    logits  = sum(act(sum(act(stream))))                   after a few messages

Its float twin is :class:`pccodec.training.draft_twin.DraftTwin`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pccodec.model.config import LATENT_LEVELS, ModelConfig
from pccodec.model.stream import TENSOR_PREFIX, ChildLogits, Descent, Entrance, Message, Tensors

DRAFT_LEVEL = LATENT_LEVELS[-1]
"""The level of its nodes: the finest that is upsampled from."""


class DraftNetwork:
    """The network; immutable.

    Args:
        tensors: those of a model file.
        config: shape of the network.

    Raises:
        ModelError: if tensors are missing, have the wrong shape, or could overflow.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], config: ModelConfig) -> None:
        own = Tensors(tensors, f"{TENSOR_PREFIX}draft.")
        channels = config.channels[DRAFT_LEVEL]
        self._descent = Descent(own, config.channels[DRAFT_LEVEL + 1], channels)
        self._enter = Entrance(own, channels)
        self._messages = [
            Message(own, f"messages.{i}", channels, config.draft_inner) for i in range(config.draft_blocks)
        ]
        self._logits = ChildLogits(own, channels)

    def inherit(self, features: np.ndarray, node: np.ndarray, octant: np.ndarray) -> np.ndarray:
        """What nodes inherit from level 2.

        Args:
            features: uint8 (m, C), activations of :meth:`pccodec.model.synthesis.LevelNetwork.predict`.
            node, octant: int64 (n,), index and octant of the nodes' parents.

        Returns:
            Stream int16 (n, C').
        """
        return self._descent(features, node, octant)

    def predict(self, neighbors: np.ndarray, given: np.ndarray, inherited: np.ndarray) -> np.ndarray:
        """Occupancy logits of the children, int16 (n, 8) in 1/LOGIT_UNIT nat.

        Args:
            neighbors: int32 (n, 27).
            given: int64 (CONDITIONS,), see :func:`pccodec.model.synthesis.conditions`.
            inherited: int16 (n, C') from :meth:`inherit`.
        """
        stream = self._enter(neighbors, given, inherited)
        for message in self._messages:
            message(stream, neighbors)
        logits, _ = self._logits(stream)
        return logits
