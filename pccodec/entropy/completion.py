"""What the geometry network expects of the child bits that a cut layer does not give.

The passes' probabilities are conditional: bit ``j`` given all bits before it, of the node and around
it. Behind the cut another network takes their place (:mod:`pccodec.model.remaining`), which expects
all bits to come at once, given the octants that are known. It is asked at milestones only.
"""

from __future__ import annotations

import numpy as np

from pccodec.entropy.geometry import LevelContext, LevelDecoder, coding_order
from pccodec.model.occupancy import OccupancyNetwork, Told


def expected_children(
    network: OccupancyNetwork, context: LevelContext, occupancy: np.ndarray, octants: int
) -> np.ndarray:
    """Logits of all child bits given those of the first octants.

    Args:
        network: the network of the layer.
        context: the context of the layer.
        occupancy: uint8 (n,), child bits; those of the first ``octants`` octants are used.
        octants: how many octants are known, 0 to 7.

    Returns:
        int32 (n, 8) in 1/LOGIT_UNIT nat; of the known octants they are of no meaning.
    """
    order, state = coding_order(network, context)
    given = occupancy[order]
    for octant in range(octants):
        for group in state.groups:
            state.observe((given[group] >> octant) & 1)
    return _in_order(order, state.told())


def expected_after(decoder: LevelDecoder) -> np.ndarray:
    """:func:`expected_children` of what a layer's decoder knew at the last milestone.

    They are found once a milestone: bits that came since then change nothing of them.
    """
    milestone = decoder.milestone
    if milestone.expected is None:
        if milestone.told is None:
            milestone.expected = expected_children(decoder.network, decoder.context, decoder.occupancy, 0)
        else:
            milestone.expected, milestone.told = _in_order(decoder.order, milestone.told), None
    return milestone.expected


def _in_order(order: np.ndarray, told: Told) -> np.ndarray:
    """What remains, int32 (n, 8), of nodes that stand in coding order in ``told``."""
    expected = np.empty((len(order), 8), dtype=np.int32)
    expected[order] = told.remaining()
    return expected
