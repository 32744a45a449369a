"""What the beginning of a geometry layer tells, be it empty: its child bits, and what they make expect."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pccodec.codec.expected_points import is_sparse
from pccodec.entropy.completion import expected_after, expected_children
from pccodec.entropy.geometry import LevelContext, LevelDecoder
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.upsampling import Partial

_MILESTONES = 0b00010101
"""Behind octants 1, 3 and 5 what is expected of the others is found anew: more often would cost decoding in
pieces more than it brings."""


def layer_decoder(
    network: OccupancyNetwork, context: LevelContext, milestones: int | None = None
) -> LevelDecoder:
    """Decoder of a layer that may be cut.

    Args:
        network: the network that encoded it.
        context: as it was when encoding.
        milestones: those of the header, if it has any for the layer's level.
    """
    return LevelDecoder(network, context, _MILESTONES if milestones is None else milestones)


def expected_beside(decoder: LevelDecoder, counts: Mapping[int, int]) -> np.ndarray | None:
    """Logits int32 (n, 8) of the child bits that a cut layer does not give (``Partial.expected``).

    Args:
        decoder: of the layer, behind the bytes that are there.
        counts: nodes by level; N_0 and, where the cloud has it, N_1 are used.
    """
    sparse = is_sparse([counts[level] for level in (0, 1) if level in counts])
    if decoder.milestone.octants == 0 and decoder.context.level < LATENT_LEVELS[0] and not sparse:
        # Before the first milestone the synthesis transform knows better.
        return None
    return expected_after(decoder)


def expected_of_layer(network: OccupancyNetwork, context: LevelContext) -> Partial:
    """What is expected of a layer of which nothing came."""
    nothing = np.zeros(len(context.neighbors), dtype=np.uint8)
    return Partial(nothing, nothing, expected_children(network, context, nothing, 0))
