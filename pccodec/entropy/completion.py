"""What the geometry network expects of the child bits that a cut layer does not give.

The network's probabilities are conditional: bit ``j`` given the bits before it, of
the node and around it. Behind the cut the passes go on with the bits that the
network itself finds most likely, as many of each octant as it expects.
"""

from __future__ import annotations

import numpy as np

from pccodec.entropy.geometry import LevelContext, coding_order
from pccodec.model.occupancy import LOGIT_MAX, PASSES, OccupancyNetwork
from pccodec.model.probability import expected_ones
from pccodec.model.upsampling import highest

_CERTAIN = 2 * LOGIT_MAX
"""Score of a bit that must be 1: the last of a node that has no other."""


def expected_children(
    network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Logits of all child bits given those that are known.

    Args:
        network: the network of the layer.
        context: the context of the layer.
        occupancy: uint8 (n,), known child bits, 0 where unknown.
        known: uint8 (n,), a set bit where the child bit is known.

    Returns:
        int32 (n, 8) in 1/LOGIT_UNIT nat; where a bit is known its logit is of no meaning.
    """
    order, state = coding_order(network, context)
    given, fixed = occupancy[order], known[order]
    filled = np.zeros(len(order), dtype=np.uint8)
    found = np.zeros((len(order), PASSES), dtype=np.int32)
    for octant in range(PASSES):
        for group in state.groups:
            for nodes, logits in state.logits():
                found[nodes, octant] = logits
            score = found[group, octant]
            if octant == PASSES - 1:
                score[filled[group] == 0] = _CERTAIN
            open_ = (fixed[group] >> octant) & 1 == 0
            bits = ((given[group] >> octant) & 1).astype(np.uint8)
            bits[open_] = _most_likely(score[open_])
            filled[group] |= bits << np.uint8(octant)
            state.observe(bits)
    out = np.empty_like(found)
    out[order] = found
    return out


def _most_likely(logits: np.ndarray) -> np.ndarray:
    """The bits of the highest logits set, as many as are expected: uint8 (n,)."""
    return highest(logits, expected_ones(logits)).astype(np.uint8)
