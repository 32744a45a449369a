"""What the geometry network expects of the child bits that a cut layer does not give.

The network's probabilities are conditional: bit ``j`` given the bits before it, of
the node and around it. Behind the cut the passes go on with the bits that the
network itself finds most likely, as many of each octant as it expects. That
takes as long as to decode the rest of the layer, and is done at milestones only.
"""

from __future__ import annotations

import numpy as np

from pccodec.entropy.geometry import LevelContext, LevelDecoder, coding_order
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import LOGIT_MAX, PASSES, LevelState, OccupancyNetwork
from pccodec.model.probability import expected_ones
from pccodec.model.upsampling import highest

_LAST = PASSES - 1
_CERTAIN = 2 * LOGIT_MAX
"""Score of a bit that must be 1: the last of a node that has no other."""


def expected_children(
    network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray, octants: int
) -> np.ndarray:
    """Logits of all child bits given those of the first octants.

    Args:
        network: the network of the layer.
        context: the context of the layer.
        occupancy: uint8 (n,), child bits; those of the first ``octants`` octants are used.
        octants: how many octants are known.

    Returns:
        int32 (n, 8) in 1/LOGIT_UNIT nat; of the known octants they are of no meaning.
    """
    order, state = coding_order(network, context)
    given = occupancy[order] & np.uint8((1 << octants) - 1)
    for octant in range(octants):
        for group in state.groups:
            state.observe((given[group] >> octant) & 1)
    return _completed(order, state, given, octants, context.level)


def expected_after(decoder: LevelDecoder) -> np.ndarray:
    """:func:`expected_children` of what a layer's decoder knew at the last milestone.

    They are found once a milestone: bits that came since then change nothing of them.
    """
    milestone = decoder.milestone
    if milestone.expected is None:
        state, milestone.state = milestone.state, None
        if state is None:
            _, state = coding_order(decoder.network, decoder.context)
        given = decoder.occupancy & np.uint8((1 << milestone.octants) - 1)
        level = decoder.context.level
        milestone.expected = _completed(decoder.order, state, given, milestone.octants, level)
    return milestone.expected


def _completed(
    order: np.ndarray, state: LevelState, filled: np.ndarray, octants: int, level: int
) -> np.ndarray:
    """Logits of the passes behind the first octants, whose bits ``filled`` holds; it is changed."""
    if level < LATENT_LEVELS[0]:
        # Levels of many nodes, which take the time. Above them single nodes tell in quality.
        state.unite_groups()
    out = np.zeros((PASSES, len(order)), dtype=np.int32)
    found = np.empty(len(order), dtype=np.int16)
    for octant in range(octants, PASSES):
        for group in state.groups:
            for nodes, logits in state.logits():
                found[nodes] = logits
            score = found[group]
            if octant == _LAST:
                score[filled[group] == 0] = _CERTAIN
            bits = _most_likely(score)
            filled[group] |= bits << np.uint8(octant)
            state.observe(bits)
        out[octant, order] = found
    return np.ascontiguousarray(out.T)


def _most_likely(logits: np.ndarray) -> np.ndarray:
    """The bits of the highest logits set, as many as are expected: uint8 (n,)."""
    return highest(logits, expected_ones(logits)).astype(np.uint8)
