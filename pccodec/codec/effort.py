"""How much an encoder tries. A decoder's work is the same at every effort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec.codec.expected_points import is_sparse
from pccodec.codec.milestones import all_milestones, find_milestones
from pccodec.codec.surplus import find_surplus
from pccodec.errors import InputError
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.voxels.octree import Octree

SMALL = 1 << 12
"""Nodes at stride 8 up to which one wrong node is seen in D1."""


@dataclass(frozen=True)
class Effort:
    """What an encoder tries.

    Attributes:
        ranks: whether it asks which latent ranks are worth their bytes.
        tried_nodes: most nodes at stride 8 of a cloud whose milestones are tried. Larger clouds
            have all milestones, and of smaller ones those that are not tried have none.
        surplus: whether a surplus of voxels is tried; else there is none.
    """

    ranks: bool
    tried_nodes: int
    surplus: bool


EFFORTS = {
    1: Effort(ranks=False, tried_nodes=0, surplus=False),
    2: Effort(ranks=True, tried_nodes=SMALL, surplus=False),
    3: Effort(ranks=True, tried_nodes=1 << 62, surplus=True),
}


def effort_of(level: int) -> Effort:
    """The effort of a level 1…3.

    Raises:
        InputError: there is no such level.
    """
    if level not in EFFORTS:
        raise InputError(f"effort {level} does not exist: choose one of {', '.join(map(str, EFFORTS))}")
    return EFFORTS[level]


def choose_milestones(
    tree: Octree, maps: list[np.ndarray], model: Model, effort: Effort
) -> tuple[int, int, int]:
    """Milestones of a stream (``Header.milestones``)."""
    if tree.depth <= LATENT_LEVELS[0]:
        return 0, 0, 0
    nodes = len(tree.codes[LATENT_LEVELS[0]])
    if nodes <= effort.tried_nodes:
        return find_milestones(tree, maps, model)
    return all_milestones(tree.depth) if nodes > SMALL else (0, 0, 0)


def choose_surplus(tree: Octree, maps: list[np.ndarray], model: Model, effort: Effort) -> int:
    """Surplus of a stream (``Header.surplus``)."""
    if not effort.surplus or is_sparse([len(codes) for codes in tree.codes]):
        return 0
    return find_surplus(tree, maps, model)
