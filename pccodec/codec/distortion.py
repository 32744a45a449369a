"""D1 as the encoder needs it to choose between reconstructions."""

from __future__ import annotations

import numpy as np
from pykdtree.kdtree import KDTree

from pccodec.voxels import morton


def d1_error(one: np.ndarray, other: np.ndarray) -> float:
    """Symmetric D1 between distinct voxels, Morton codes uint64 (n,) and (m,), in squared voxels.

    The larger of the two mean squared distances to the nearest voxel of the other cloud.
    """
    first, second = (morton.decode(codes).astype(np.float32) for codes in (one, other))
    pairs = ((KDTree(first), second), (KDTree(second), first))
    return max(
        float(tree.query(queries, k=1, sqr_dists=True)[0].mean(dtype=np.float64)) for tree, queries in pairs
    )
