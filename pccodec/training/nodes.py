"""Octree nodes as tensors, on any device: what training does with them in every step.

The codec does the same with numpy arrays (:mod:`pccodec.voxels.octree`,
:mod:`pccodec.sparse.neighbors`, :func:`pccodec.model.upsampling.select_children`); tests
hold both equal. Morton codes are int64 here, and several trees may stand in one level,
told apart by the bits above their own codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pccodec.model.config import LATENT_LEVELS
from pccodec.model.probability import LOGIT_MAX, PROBABILITY
from pccodec.model.upsampling import CHILD
from pccodec.sparse.neighbors import CENTER, KERNEL, PARENT_COLUMN, PARENT_OCTANT

_SCORE_MAX = 1 << 20
"""Beyond any score of a child."""


@cache
def _table(name: str, device: torch.device) -> Tensor:
    arrays = {"column": PARENT_COLUMN, "octant": PARENT_OCTANT, "probability": PROBABILITY}
    return torch.from_numpy(arrays[name]).to(device)


def unpack(occupancy: Tensor) -> Tensor:
    """Child bits, bool (n, 8), of occupancy bytes uint8 (n,); column ``o`` is octant ``o``."""
    octants = torch.arange(8, device=occupancy.device, dtype=torch.uint8)
    return (occupancy[:, None] >> octants & 1).bool()


def pack(bits: Tensor) -> Tensor:
    """Occupancy bytes uint8 (n,) of child bits (n, 8)."""
    values = 1 << torch.arange(8, device=bits.device)
    return (bits.long() * values).sum(dim=1).to(torch.uint8)


def children(occupancy: Tensor) -> tuple[Tensor, Tensor]:
    """Parent index and octant, both int64 (n,), of every child of nodes (m,), in Morton order."""
    place = torch.nonzero(unpack(occupancy).view(-1))[:, 0]
    return place >> 3, place & 7


def parents(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Parent codes int64 (m,) and their occupancy uint8 (m,) of sorted, distinct codes int64 (n,)."""
    above, parent = torch.unique_consecutive(codes >> 3, return_inverse=True)
    bits = torch.zeros(len(above), dtype=torch.int64, device=codes.device)
    return above, bits.index_add_(0, parent, 1 << (codes & 7)).to(torch.uint8)


def expand(codes: Tensor, occupancy: Tensor) -> Tensor:
    """Child codes, int64 sorted, of nodes (m,) with occupancy bytes uint8 (m,)."""
    node, octant = children(occupancy)
    return codes[node] << 3 | octant


def root_map(nodes: int, device: torch.device) -> Tensor:
    """Map int32 (nodes, 27) of nodes that have no neighbours but themselves."""
    neighbors = torch.full((nodes, KERNEL), nodes, dtype=torch.int32, device=device)
    neighbors[:, CENTER] = torch.arange(nodes, dtype=torch.int32, device=device)
    return neighbors


def child_map(parent: Tensor, occupancy: Tensor) -> Tensor:
    """Map int32 (n, 27) of the children of a level from its own map, int32 (m, 27)."""
    node, octant = children(occupancy)
    # One row of eight child indices a parent; the last row serves absent parents.
    slots = torch.full(((len(occupancy) + 1) * 8,), len(node), dtype=torch.int32, device=parent.device)
    slots[node * 8 + octant] = torch.arange(len(node), dtype=torch.int32, device=parent.device)
    column, inside = (_table(name, parent.device)[octant] for name in ("column", "octant"))
    above = parent[node].gather(1, column)
    return slots[above.long() * 8 + inside]


@dataclass(frozen=True)
class Tree:
    """An octree, or several of one depth: a list entry is a level, the finest first.

    Attributes:
        codes: int64 (n,), sorted, levels 0 to depth.
        occupancy: uint8 (n,), of the nodes of levels 1 to depth: entry ``l`` leads to level ``l``.
        maps: neighbour maps int32 (n, 27) of levels 1 to depth; entry 0 is empty.
    """

    codes: list[Tensor]
    occupancy: list[Tensor]
    maps: list[Tensor]

    @classmethod
    def build(cls, codes: Tensor, depth: int) -> Tree:
        """From the sorted voxels, int64 (n,), of trees that are so deep."""
        levels, occupancy = [codes], []
        for _ in range(depth):
            above, bits = parents(levels[-1])
            levels.append(above)
            occupancy.append(bits)
        maps = [root_map(len(levels[-1]), codes.device)]
        for bits in reversed(occupancy[1:]):
            maps.append(child_map(maps[-1], bits))
        return cls(levels, occupancy, [maps[0][:0], *reversed(maps)])


def true_children(tree: Tree, level: int, codes: Tensor) -> Tensor:
    """Child bits, uint8 (n,), of nodes of a level with the given codes; nodes that do not exist have none."""
    nodes = tree.codes[level]
    place = torch.searchsorted(nodes, codes).clamp_max_(len(nodes) - 1)
    found = tree.occupancy[level - 1][place]
    return torch.where(nodes[place] == codes, found, torch.zeros_like(found))


def descriptor(tree: Tree, level: int) -> Tensor:
    """Shape descriptors, float32 (n, d), of a level's nodes (:func:`pccodec.model.analysis.descriptor`)."""
    if level == LATENT_LEVELS[-1]:
        return unpack(tree.occupancy[0]).float()
    cells = tree.codes[level - 2]
    nodes = tree.codes[level]
    place = torch.searchsorted(nodes, cells >> 6) * 64 + (cells & 63)
    out = torch.zeros(len(nodes) * 64, device=cells.device)
    filled = torch.ones(len(cells), device=cells.device)
    if level == LATENT_LEVELS[0]:
        filled = unpack(tree.occupancy[0]).float().mean(dim=1)
    out[place] = filled
    return out.view(-1, 64)


def select_children(logits: Tensor, group: Tensor, counts: Tensor) -> Tensor:
    """Children to reconstruct (:func:`pccodec.model.upsampling.select_children`), group by group.

    Args:
        logits: int (n, 8), in 1/LOGIT_UNIT nat.
        group: int64 (n,), sorted: which group each node belongs to.
        counts: int64 (g,), children to keep in each group, if that leaves each node one.

    Returns:
        uint8 (n,).
    """
    rows = logits.long()
    table = _table("probability", logits.device)
    expected = table[(rows + LOGIT_MAX).clamp(0, len(table) - 1)].sum(dim=1)
    zeros = torch.zeros_like(counts)
    nodes = zeros.index_add(0, group, torch.ones_like(group))
    total = zeros.index_add(0, group, expected).clamp_min_(1)
    missing = torch.minimum(counts.clamp_min(0), 8 * nodes)
    bonus = (expected * (CHILD * missing)[group] // total[group]).clamp_max_(8 * CHILD)
    order = torch.argsort(-rows, dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(8, device=rows.device).expand_as(order))
    score = rows - CHILD * ranks + bonus[:, None]
    score[ranks == 0] = _SCORE_MAX
    keep = torch.minimum(torch.maximum(counts, nodes), 8 * nodes)
    # Sorted by group and then by falling score, of equal ones the first: the first ones of a group stay.
    key = (group[:, None] * (4 * _SCORE_MAX) - score).view(-1)
    best = torch.argsort(key, stable=True)
    of_group = group[best >> 3]
    begin = 8 * (torch.cumsum(nodes, 0) - nodes)
    place = torch.arange(len(best), device=best.device) - begin[of_group]
    chosen = torch.zeros(len(best), dtype=torch.bool, device=best.device)
    chosen[best] = place < keep[of_group]
    return pack(chosen.view(-1, 8))
