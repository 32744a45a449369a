"""What the geometry network expects of the child bits that a cut layer does not give.

The network's probabilities are conditional: bit ``j`` given the bits before it, of
the node and around it. Behind the cut the passes go on with the bits that the
network itself finds most likely, as many of each octant as it expects.
"""

from __future__ import annotations

import numpy as np

from pccodec.entropy.geometry import LevelContext, LevelDecoder, coding_order
from pccodec.model.occupancy import LOGIT_MAX, PASSES, LevelState, OccupancyNetwork
from pccodec.model.probability import expected_ones
from pccodec.model.upsampling import highest

_LAST = PASSES - 1
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
    found = np.zeros((PASSES, len(order)), dtype=np.int16)
    _hear(state, found[0])
    return _completed(order, state, occupancy[order], known[order], found, (0, 0))


def expected_after(decoder: LevelDecoder, last: bool = False) -> np.ndarray:
    """:func:`expected_children` of what a layer's decoder knows, from where it stands.

    Args:
        decoder: of a layer that is cut.
        last: whether the decoder is not used any more, which saves memory.
    """
    state = decoder.state if last else decoder.state.fork()
    found = np.zeros((PASSES, len(decoder.order)), dtype=np.int16)
    found[decoder.octant] = decoder.logits
    return _completed(
        decoder.order, state, decoder.occupancy, decoder.known, found, (decoder.octant, decoder.group)
    )


def _completed(
    order: np.ndarray,
    state: LevelState,
    given: np.ndarray,
    fixed: np.ndarray,
    found: np.ndarray,
    start: tuple[int, int],
) -> np.ndarray:
    """Logits of all passes, from those of the passes up to the octant and group ``start``, in ``found``."""
    octant, index = start
    filled = given & np.uint8((1 << octant) - 1)
    for group in state.groups[:index]:
        filled[group] |= given[group] & np.uint8(1 << octant)
    for octant in range(start[0], PASSES):
        for index, group in enumerate(state.groups):
            if (octant, index) < start:
                continue
            if (octant, index) > start:
                _hear(state, found[octant])
            score = found[octant, group]
            if octant == _LAST:
                score[filled[group] == 0] = _CERTAIN
            open_ = (fixed[group] >> octant) & 1 == 0
            bits = ((given[group] >> octant) & 1).astype(np.uint8)
            bits[open_] = _most_likely(score[open_])
            filled[group] |= bits << np.uint8(octant)
            state.observe(bits)
    found[_LAST, filled & np.uint8((1 << _LAST) - 1) == 0] = _CERTAIN
    out = np.empty((len(order), PASSES), dtype=np.int32)
    out[order] = found.T
    return out


def _hear(state: LevelState, logits: np.ndarray) -> None:
    for nodes, found in state.logits():
        logits[nodes] = found


def _most_likely(logits: np.ndarray) -> np.ndarray:
    """The bits of the highest logits set, as many as are expected: uint8 (n,)."""
    return highest(logits, expected_ones(logits)).astype(np.uint8)
