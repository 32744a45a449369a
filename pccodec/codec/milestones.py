"""Where in the base layer a cut stream is worth reconstructing.

Above stride 8 a cloud has few nodes, and each that is predicted in a wrong place costs some
tenths of a decibel. More bytes then sometimes give less quality, most of all in the middle of
an octant, when its bits are known on one side of the cloud only. The encoder therefore tries
the end of each octant and marks those behind which quality rises.
"""

from __future__ import annotations

import numpy as np

from pccodec.codec.coarse import down_to_synthesis
from pccodec.codec.distortion import d1_error
from pccodec.codec.expected_points import is_sparse
from pccodec.codec.reconstruction import reconstruct
from pccodec.container import ALL_MILESTONES, MILESTONE_LEVELS
from pccodec.entropy.completion import expected_children
from pccodec.entropy.geometry import LevelContext
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import PASSES
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Partial
from pccodec.voxels.octree import Octree

_TINY = 1 << 9
"""Nodes at stride 8 up to which voxels are compared: a few dozen milliseconds for each octant."""
_MARGIN = 1.08
"""By which errors must fall from one milestone to the next to fall in what is reconstructed, too."""


def find_milestones(tree: Octree, maps: list[np.ndarray], model: Model) -> tuple[int, int, int]:
    """Milestones of levels 5, 4 and 3 (``Header.milestones``) with which quality never falls.

    Quality is D1 between the nodes at stride 8 that a decoder would predict and the true ones; what is
    reconstructed below them follows it, but for a margin. Of tiny clouds the voxels are compared.

    Args:
        tree: the cloud.
        maps: neighbour maps by level.
        model: the stream's model.
    """
    masks = []
    for level in MILESTONE_LEVELS:
        mask = 0
        if level < tree.depth:
            begin = _error(tree, maps, model, level, 0)
            # From the end of the layer back, so that what is kept never exceeds what follows it.
            least = _MARGIN * _error(tree, maps, model, level - 1, 0)
            for octants in range(PASSES - 1, 0, -1):
                error = _error(tree, maps, model, level, octants)
                if least <= error <= begin / _MARGIN:
                    mask |= 1 << octants - 1
                    least = _MARGIN * error
        masks.append(mask)
    return masks[0], masks[1], masks[2]


def all_milestones(depth: int) -> tuple[int, int, int]:
    """A milestone behind every octant."""
    first, second, third = (ALL_MILESTONES if level < depth else 0 for level in MILESTONE_LEVELS)
    return first, second, third


def _error(tree: Octree, maps: list[np.ndarray], model: Model, level: int, octants: int) -> float:
    """D1 of a stream that gives ``X_{level+1}`` and the first octants of ``G_level``, as it is compared."""
    # Levels between the header's counts and the cut are not known to the decoder.
    counts = {
        other: len(codes)
        for other, codes in enumerate(tree.codes)
        if other <= LATENT_LEVELS[0] or other > level
    }
    above = level + 1
    known = Known({above: tree.codes[above]}, {above: maps[above]}, counts)
    if octants:
        mask = np.uint8((1 << octants) - 1)
        found, bits = tree.occupancy[level] & mask, np.full(len(tree.occupancy[level]), mask)
        context = LevelContext(maps[above], level, counts, tree.codes[above])
        known.partial = Partial(
            found, bits, expected_children(model.geometry, context, found, octants), octants
        )
    start = known.start
    if is_sparse([len(codes) for codes in tree.codes]):
        nodes = reconstruct(known, model) >> np.uint64(3 * start)
        return d1_error(tree.codes[start], np.unique(nodes))
    if len(tree.codes[start]) <= _TINY:
        return d1_error(tree.codes[0], reconstruct(known, model))
    return d1_error(tree.codes[start], down_to_synthesis(known, model.geometry).codes[start])
