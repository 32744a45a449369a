"""Geometry layers of many clouds in a device's memory, and random batches of parts of them.

All levels of all clouds stand in flat arrays, so that a batch takes a few operations however
many parts it joins: 140 bytes a node, about half a node a voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pccodec.entropy.geometry import FACES, LevelContext
from pccodec.model.rank_inputs import RANKS_MAX
from pccodec.training import nodes
from pccodec.training.levels import depth_of
from pccodec.voxels.octree import POPCOUNT

RIM = 2
"""Neighbours of neighbours stand around a part; what lies beyond is treated as absent."""


@dataclass(frozen=True)
class PoolConfig:
    """How batches are drawn.

    Attributes:
        nodes_per_step: nodes whose bits count, all parts together.
        nodes_per_part: most of one part.
        level_shares: of parts from ``G_0``, ``G_1``, ``G_2``, and all coarser layers together.
        without_ranks: share of the parts of levels with latent ranks that are shown without.
    """

    nodes_per_step: int = 8_000
    nodes_per_part: int = 2_500
    level_shares: tuple[float, ...] = (0.5, 0.22, 0.12, 0.16)
    without_ranks: float = 0.5


@dataclass(frozen=True)
class Batch:
    """Parts of levels, joined; the other tensors are as :meth:`GeometryTwin.forward` takes them.

    ``scored``, bool (n,), leaves out the rims; ``part``, int64 (n,), numbers the levels that the nodes
    belong to from 0 to ``parts`` - 1; ``second``, bool (n,), marks the nodes coded in the second half
    of each pass; ``sent`` is None if no level of the pool has ranks.
    """

    neighbors: Tensor
    statistics: Tensor
    bits: Tensor
    scored: Tensor
    part: Tensor
    parts: int
    second: Tensor
    ranks: Tensor | None
    sent: Tensor | None


class LevelPool:
    """All geometry layers of some clouds.

    Args:
        clouds: of each cloud the sorted Morton codes of its voxels, uint64 (n,), and its latent ranks
            int8 (n, K) by level, empty if it has none.
        device: where they go.

    Attributes:
        begins: int64 (rows + 1,), first node of each level of each cloud, finest level first.
        sent: int64 (rows,), how many latent ranks their nodes have.
    """

    def __init__(
        self, clouds: Iterable[tuple[np.ndarray, Mapping[int, np.ndarray]]], device: torch.device
    ) -> None:
        self._device = device
        neighbors, occupancy, second, ranks = [], [], [], []
        statistics: list[np.ndarray] = []
        self._levels: list[int] = []
        sent: list[int] = []
        self._clouds: list[list[int]] = []
        begins = [0]
        for codes, of_cloud in clouds:
            depth = depth_of(codes)
            tree = nodes.Tree.build(torch.from_numpy(codes.astype(np.int64)).to(device), depth)
            statistics += level_statistics(tree)
            self._clouds.append(list(range(len(self._levels), len(self._levels) + depth)))
            for level, bits in enumerate(tree.occupancy):
                around = tree.maps[level + 1]
                neighbors.append(torch.where(around < len(bits), around + begins[-1], -1))
                occupancy.append(bits)
                second.append(_second_group(tree.codes[level + 1]))
                symbols = of_cloud.get(level + 1)
                ranks.append(_padded(symbols, len(bits), device))
                self._levels.append(level)
                sent.append(0 if symbols is None else min(symbols.shape[1], RANKS_MAX))
                begins.append(begins[-1] + len(bits))
        count = begins[-1]
        self.begins = np.array(begins)
        self._neighbors = torch.cat(neighbors)
        self._neighbors[self._neighbors < 0] = count
        self._occupancy, self._second = torch.cat(occupancy), torch.cat(second)
        self.sent = np.array(sent)
        self._ranks = torch.cat(ranks) if self.sent.any() else None
        self._statistics = torch.from_numpy(np.array(statistics, dtype=np.float32)).to(device)
        sizes = torch.from_numpy(np.diff(self.begins)).to(device)
        rows = torch.arange(len(self._levels), dtype=torch.int32, device=device)
        self._row = torch.repeat_interleave(rows, sizes)
        self._marked = torch.zeros(count + 1, dtype=torch.bool, device=device)

    def __len__(self) -> int:
        return len(self._clouds)

    def draw(self, config: PoolConfig, rng: np.random.Generator) -> Batch:
        """A random batch of ``nodes_per_step`` scored nodes, or a few less where parts overlap."""
        shares = np.array(config.level_shares) / sum(config.level_shares)
        begins: list[int] = []
        widths: list[int] = []
        while (total := sum(widths)) < config.nodes_per_step:
            rows = self._clouds[rng.integers(len(self._clouds))]
            drawn = int(rng.choice(len(shares), p=shares))
            if drawn == len(shares) - 1:
                # The shared class of coarse levels: the finer ones hold most of its nodes.
                drawn = min(drawn + int(rng.geometric(0.45)) - 1, len(rows) - 1)
            if drawn >= len(rows):
                continue
            first, end = self.begins[rows[drawn]], self.begins[rows[drawn] + 1]
            widths.append(int(min(end - first, config.nodes_per_part, config.nodes_per_step - total)))
            begins.append(int(first + rng.integers(end - first - widths[-1] + 1)))
        # All levels draw, whether they are in the batch or not: that is simplest.
        number = rng.integers(np.minimum(self.sent, 1), self.sent + 1)
        without = rng.random(len(number)) < config.without_ranks
        return self.take(begins, widths, np.where(without, 0, number))

    def take(self, begins: list[int], widths: list[int], sent: np.ndarray) -> Batch:
        """The batch of parts of some widths with given first nodes.

        Args:
            begins, widths: of the parts, in nodes of the pool. No part lies in two levels.
            sent: int64 (rows,), how many ranks the nodes of each level have.
        """
        device, count = self._device, len(self._occupancy)
        starts = torch.tensor(begins, device=device) - torch.tensor(
            np.cumsum([0, *widths[:-1]]), device=device
        )
        inside = torch.repeat_interleave(starts, torch.tensor(widths, device=device))
        inside += torch.arange(sum(widths), device=device)
        self._marked[inside] = True
        chosen = torch.nonzero(self._marked[:count])[:, 0]
        for _ in range(RIM):
            self._marked[self._neighbors[chosen].view(-1).long()] = True
            chosen = torch.nonzero(self._marked[:count])[:, 0]
        self._marked[chosen] = False
        self._marked[count] = False
        # Nodes beyond the rim and absent ones become the batch's own sentinel.
        wanted = self._neighbors[chosen].long()
        place = torch.searchsorted(chosen, wanted)
        found = chosen[place.clamp_max(len(chosen) - 1)] == wanted
        scored = torch.zeros(len(chosen), dtype=torch.bool, device=device)
        scored[torch.searchsorted(chosen, inside)] = True
        row = self._row[chosen]
        rows, part = torch.unique(row, return_inverse=True)
        ranks = number = None
        if self._ranks is not None:
            table = torch.from_numpy(np.stack([np.array(self._levels) + 1, sent], axis=1)).to(device)
            number = table[row.long()]
            ranks = self._ranks[chosen].float()
            ranks *= torch.arange(RANKS_MAX, device=device) < number[:, 1:]
        return Batch(
            torch.where(found, place, len(chosen)).int(),
            self._statistics[row.long()],
            nodes.unpack(self._occupancy[chosen]).float(),
            scored,
            part,
            len(rows),
            self._second[chosen],
            ranks,
            number,
        )


def level_statistics(tree: nodes.Tree) -> list[np.ndarray]:
    """Of each layer ``G_l``, finest first, what :attr:`LevelContext.statistics` says of it."""
    sums = []
    for neighbors in tree.maps[1:]:
        present = neighbors < len(neighbors)
        degree = present.sum(dim=1)
        sums.append(torch.stack([degree.sum(), present[:, FACES].sum(), (degree == 1).sum()]))
    counts = {level: len(codes) for level, codes in enumerate(tree.codes)}
    empty = np.empty((0, 27), dtype=np.int32)
    return [
        LevelContext(empty, level, counts).describe(counts[level + 1], *of_level)
        for level, of_level in enumerate(torch.stack(sums).tolist())
    ]


def _second_group(codes: Tensor) -> Tensor:
    """:func:`pccodec.entropy.geometry.second_group` of a tensor."""
    odd = torch.from_numpy(POPCOUNT[:8] & 1 == 1).to(codes.device)
    return odd[codes & 7]


def _padded(symbols: np.ndarray | None, count: int, device: torch.device) -> Tensor:
    """Symbols int8 (n, RANKS_MAX), 0 where there are none."""
    out = torch.zeros(count, RANKS_MAX, dtype=torch.int8, device=device)
    if symbols is not None:
        out[:, : symbols.shape[1]] = torch.from_numpy(symbols[:, :RANKS_MAX]).to(device)
    return out
