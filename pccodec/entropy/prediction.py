"""Children of a coarse level as the geometry network expects them, exactly in integers.

Above stride 8 there is no synthesis transform: what a stream cut there does not
give is continued by the network that would have decoded it.
"""

from __future__ import annotations

import numpy as np

from pccodec.entropy.completion import expected_children
from pccodec.entropy.geometry import LevelContext
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.probability import expected_ones
from pccodec.model.upsampling import Partial, select_children
from pccodec.voxels import octree


def predict_level(
    network: OccupancyNetwork,
    context: LevelContext,
    *,
    count: int | None,
    most: int,
    partial: Partial | None,
) -> np.ndarray:
    """Most probable children of all nodes.

    Args:
        network: the network of the geometry layers.
        context: of the layer that is missing or cut.
        count: children to keep; if None, as many as are expected.
        most: upper limit on them.
        partial: what is known of the children, with what is expected beside it.

    Returns:
        Child bits, uint8 (n,).
    """
    if partial is not None:
        assert partial.expected is not None
        score, open_ = partial.expected, ~octree.unpack(partial.known)
        likely = int(octree.POPCOUNT[partial.occupancy].sum()) + expected_ones(score[open_])
    else:
        score = expected_children(network, context, np.zeros(len(context.neighbors), dtype=np.uint8), 0)
        likely = expected_ones(score)
    return select_children(score, min(likely if count is None else count, most), partial)
