"""How many voxels a cloud cut at stride 8 should be given.

D1 is the larger error of two directions. With as many voxels as the cloud has, the one from
the cloud to its reconstruction (holes) is often larger than the one back (wrong voxels), and a
few voxels more balance them. How many depends on the cloud, so the encoder tries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pccodec.codec.distortion import d1_error
from pccodec.container import MAX_SURPLUS
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Upsampler
from pccodec.voxels.octree import Octree

_STEP = 2


def find_surplus(tree: Octree, maps: list[np.ndarray], model: Model) -> int:
    """Surplus (``Header.surplus``) with the least D1 error of the cloud as cut at stride 8.

    Args:
        tree: the cloud.
        maps: neighbour maps by level.
        model: the stream's model.
    """
    start = LATENT_LEVELS[0]
    if tree.depth <= start:
        return 0
    counts = {level: len(codes) for level, codes in enumerate(tree.codes)}
    known = Known({start: tree.codes[start]}, {start: maps[start]}, counts)
    upsampler = Upsampler(model.synthesis)
    best, least = 0, d1_error(tree.codes[0], upsampler.voxels(known))
    # The error falls and then rises.
    for surplus in range(_STEP, MAX_SURPLUS + 1, _STEP):
        error = d1_error(tree.codes[0], upsampler.voxels(replace(known, surplus=surplus)))
        if error >= least:
            break
        best, least = surplus, error
    return best
