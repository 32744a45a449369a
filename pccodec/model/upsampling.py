"""Inference of the synthesis transform: from what is known of a cloud to its most probable voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pccodec.model.config import LATENT_LEVELS
from pccodec.model.draft import DRAFT_LEVEL
from pccodec.model.probability import LOGIT_UNIT, probability
from pccodec.model.synthesis import SynthesisNetwork, conditions
from pccodec.sparse.neighbors import child_map
from pccodec.voxels import octree

UNLIMITED = 1 << 62

_WHOLE = 256
CHILD = LOGIT_UNIT // 2
"""One child in the scores of :func:`select_children`: half a nat."""
SPARE = 3
"""32nds of nodes that are kept beyond their number while there are finer levels: a missing node is a
hole and costs more than a wrong one."""
_CERTAIN = 1 << 20
"""Beyond any logit and any score."""


@dataclass(frozen=True)
class Latent:
    """Ranks of a level as they arrived.

    Attributes:
        symbols: int8 (n, k), k ≤ K, zero where nothing arrived.
        active: int64 (n,), how many ranks of each node arrived.
    """

    symbols: np.ndarray
    active: np.ndarray

    @classmethod
    def none(cls, nodes: int) -> Latent:
        """No ranks of ``nodes`` nodes."""
        return cls(np.zeros((nodes, 0), dtype=np.int8), np.zeros(nodes, dtype=np.int64))


@dataclass(frozen=True)
class Partial:
    """Child bits of the finest exact level, of which some may be known (a cut geometry layer).

    Attributes:
        occupancy: uint8 (n,), the known child bits, 0 where unknown.
        known: uint8 (n,), a set bit where the child bit is known.
        expected: int32 (n, 8), logits in 1/LOGIT_UNIT nat of the others given known ones; None where
            those of the synthesis transform tell more.
        octants: how many octants were known where ``expected`` was found.
    """

    occupancy: np.ndarray
    known: np.ndarray
    expected: np.ndarray | None = None
    octants: int = 0

    @property
    def unknown(self) -> int:
        """Share of the child bits that are not known, in 1/_WHOLE."""
        known = int(octree.POPCOUNT[self.known].sum(dtype=np.int64))
        return _WHOLE - known * _WHOLE // (8 * len(self.known))

    @property
    def before(self) -> Partial:
        """What was known where ``expected`` was found."""
        then = np.uint8((1 << self.octants) - 1)
        return replace(self, occupancy=self.occupancy & then, known=np.full_like(self.known, then))

    def correct(self, chosen: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Children that were chosen by what was known before, brought into line with what is known.

        Args:
            chosen: uint8 (n,).
            logits: int (n, 8) that they were chosen by; a node that is left without children gets the
                most probable one that is not known.

        Returns:
            uint8 (n,).
        """
        occupancy: np.ndarray = (chosen & ~self.known) | self.occupancy
        empty = np.flatnonzero(occupancy == 0)
        open_ = np.where(octree.unpack(self.known[empty]), -_CERTAIN, logits[empty])
        occupancy[empty] = np.uint8(1) << open_.argmax(axis=1).astype(np.uint8)
        return occupancy


@dataclass
class Known:
    """All that is known of a cloud, down to its finest known level.

    Attributes:
        codes: Morton codes of each known level, by level.
        maps: neighbour maps int32 (n, 27) of these levels.
        counts: nodes by level, as far as known; below the finest known level all must be.
        latents: ranks that arrived, by level.
        partial: known part of the children of the finest known level.
        exact: whether the nodes of the finest known level are the true ones.
        budget: most voxels to upsample to; coarser levels may have a share (:func:`most_nodes`).
        surplus: 32nds of N_0 to be predicted beyond N_0 while synthesis starts at the finest
            known level. The encoder finds out what suits the cloud.
    """

    codes: dict[int, np.ndarray]
    maps: dict[int, np.ndarray]
    counts: dict[int, int]
    latents: dict[int, Latent] = field(default_factory=dict)
    partial: Partial | None = None
    exact: bool = True
    budget: int = UNLIMITED
    surplus: int = 0

    @property
    def finest(self) -> int:
        """The finest known level."""
        return min(self.codes)

    @property
    def start(self) -> int:
        """Where synthesis starts: level 3, or the coarsest level of a cloud that is no deeper."""
        return min(LATENT_LEVELS[0], max(self.codes))

    def is_exact(self, level: int) -> bool:
        """Whether the nodes of a level that synthesis passes are the true ones."""
        return level > self.finest or (level == self.finest and self.exact)

    def latent(self, level: int) -> Latent:
        """Ranks of a known level."""
        return self.latents.get(level) or Latent.none(len(self.codes[level]))


def most_nodes(budget: int, counts: Mapping[int, int], level: int) -> int:
    """Upper limit on the nodes of a predicted level.

    The budget of voxels, with twice the nodes that a surface has at coarser levels, whose
    features take more memory; and no more than finer levels have.
    """
    finer = [count for other, count in counts.items() if other < level]
    return min([budget >> max(0, 2 * min(level, LATENT_LEVELS[0]) - 1), *finer])


def nodes_to_keep(count: int, spare: int = SPARE, unknown: int = _WHOLE) -> int:
    """How many nodes of a predicted level to keep: its number, and some to spare.

    Args:
        count: N_l, the number of nodes that the level has.
        spare: 32nds of that number.
        unknown: share of the level's child bits that are not known, in 1/256; where bits are
            known there is less to spare.
    """
    return count + count * spare * unknown // (32 * _WHOLE)


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Mask bool (n,) of the ``count`` highest of integer scores (n,), of equal ones the first."""
    if count <= 0:
        return np.zeros(len(scores), dtype=bool)
    # The value at a rank is the same however it is found; which of equal entries a partition picks is not.
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen: np.ndarray = scores > lowest
    chosen[np.flatnonzero(scores == lowest)[: count - int(chosen.sum())]] = True
    return chosen


def select_children(logits: np.ndarray, count: int, partial: Partial | None) -> np.ndarray:
    """Occupancy of the children to reconstruct: about as many in each node as are expected of it.

    The most probable children of the whole level would leave uncertain regions empty, and a hole
    costs far more in D1 than points next to where they belong. So a node's share of ``count``
    follows its expected number of children, e: its child of rank r (0 the most probable) and logit
    z, in nats, scores (e - r)/2 + z, and the highest scores of the level are taken. Each node keeps
    its best child.

    Args:
        logits: int (n, 8), in 1/LOGIT_UNIT nat.
        count: children to keep, if that leaves each node one.
        partial: child bits that are known; they are kept as they are.

    Returns:
        uint8 (n,).
    """
    nodes = len(logits)
    # One row an octant: whole rows are compared and summed at once.
    rows = np.ascontiguousarray(logits.T, dtype=np.int32)
    chance, found = probability(rows), np.zeros(nodes, dtype=np.int64)
    ordered, absent = rows, None
    if partial is not None:
        known, occupied = octree.unpack_rows(partial.known), octree.unpack_rows(partial.occupancy)
        np.copyto(chance, 0, where=known)
        found = octree.POPCOUNT[partial.occupancy]
        ordered, absent = np.where(known, np.int32(-_CERTAIN), rows), known & ~occupied
        np.copyto(ordered, _CERTAIN, where=occupied)
    expected = chance.sum(axis=0, dtype=np.int64)
    missing = min(max(count - int(found.sum()), 0), logits.size)
    share = expected * (CHILD * missing) // max(1, int(expected.sum()))
    bonus = np.minimum(found * CHILD + share, 8 * CHILD).astype(np.int32)
    ranks = _ranks(ordered)
    score = rows - CHILD * ranks.astype(np.int32) + bonus
    certain, most = ranks == 0, score.size
    if absent is not None:
        certain = (certain & ~absent) | occupied
        score -= absent * np.int32(_CERTAIN)
        most -= np.count_nonzero(absent)
    score += certain * np.int32(_CERTAIN)
    return _highest_children(score, min(max(count, np.count_nonzero(certain)), most))


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Rank uint8 (8, n) of each value in its column, 0 the highest, of equal ones the first."""
    ranks = np.zeros(rows.shape, dtype=np.uint8)
    for second in range(1, len(rows)):
        for first in range(second):
            before = rows[first] >= rows[second]
            ranks[second] += before
            ranks[first] += ~before
    return ranks


def _highest_children(score: np.ndarray, count: int) -> np.ndarray:
    """Occupancy uint8 (n,) of the ``count`` highest of scores (8, n), of equal ones the first."""
    if count <= 0:
        return np.zeros(score.shape[1], dtype=np.uint8)
    lowest = np.partition(score, score.size - count, axis=None)[score.size - count]
    above, equal = (octree.pack_rows(mask) for mask in (score > lowest, score == lowest))
    # Of the equal ones, as many as there is room for: whole nodes, and the first ones of another node.
    reached = np.cumsum(octree.POPCOUNT[equal])
    room = count - int(octree.POPCOUNT[above].sum())
    node = int(np.searchsorted(reached, room, side="right"))
    above[:node] |= equal[:node]
    if node < len(reached):
        spare = room - (int(reached[node - 1]) if node else 0)
        _, octants = octree.children(equal[node : node + 1])
        above[node] |= np.bitwise_or.reduce(1 << octants[:spare], initial=0)
    return above


@dataclass(frozen=True)
class _Kept:
    """What the synthesis transform found at an exact level.

    Attributes:
        level: the level.
        context: of :meth:`LevelNetwork.embed`, which no latent changes.
        latent: the ranks that ``found`` was made with.
        found: logits and features of :meth:`LevelNetwork.predict`.
    """

    level: int
    context: np.ndarray
    latent: Latent | None
    found: tuple[np.ndarray, np.ndarray]


class Upsampler:
    """Runs level after level from the start of synthesis to the voxels.

    Args:
        synthesis: the transform.
        keep: whether to keep what is found at the finest exact level for the next call. All
            calls must then be for one cloud, of which more and more is known.
    """

    def __init__(self, synthesis: SynthesisNetwork, keep: bool = False) -> None:
        self._synthesis, self._keep = synthesis, keep
        self._kept: _Kept | None = None
        self._chosen: tuple[np.ndarray, np.ndarray] | None = None

    def voxels(self, known: Known) -> np.ndarray:
        """Most probable voxels: sorted Morton codes, uint64, of about N_0 of them."""
        return self.nodes(known, 0)

    def nodes(self, known: Known, target: int) -> np.ndarray:
        """Most probable nodes of a level finer than the finest known one, sorted Morton codes uint64."""
        if known.finest == 1 and known.partial is not None and known.partial.expected is not None:
            return octree.expand(known.codes[1], self._predicted(known, 1, known.partial.expected))
        level = self._kept.level if self._kept else known.start
        codes, neighbors = known.codes[level], known.maps[level]
        inherited: np.ndarray | None = None
        while True:
            logits, features = self._found(known, level, neighbors, inherited)
            if level > known.finest:
                _, occupancy = octree.parents(known.codes[level - 1])
            else:
                occupancy = self._predicted(known, level, logits)
            codes = octree.expand(codes, occupancy)
            if level == target + 1:
                return codes
            children, neighbors = octree.children(occupancy), child_map(neighbors, occupancy)
            if level - 1 == DRAFT_LEVEL and not known.is_exact(DRAFT_LEVEL):
                draft, told = self._synthesis.draft, conditions(known.counts, DRAFT_LEVEL, exact=False)
                logits = draft.predict(neighbors, told, draft.inherit(features, *children))
                return octree.expand(codes, self._predicted(known, DRAFT_LEVEL, logits))
            inherited = self._synthesis.level(level).inherit(features, *children)
            level -= 1

    def _found(
        self, known: Known, level: int, neighbors: np.ndarray, inherited: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of a level."""
        network, kept = self._synthesis.level(level), self._kept
        arrived = known.latents.get(level) if level >= known.finest else None
        exact = known.is_exact(level)
        if kept and kept.level == level:
            if kept.latent is arrived:
                return kept.found
            context = kept.context
        else:
            context = network.embed(neighbors, conditions(known.counts, level, exact), inherited)
        latent = arrived or Latent.none(len(neighbors))
        found = network.predict(context, neighbors, latent.symbols, latent.active)
        if self._keep and exact:
            self._kept = _Kept(level, context, arrived, found)
        return found

    def _predicted(self, known: Known, level: int, logits: np.ndarray) -> np.ndarray:
        """Children of the nodes of a level, uint8 (n,)."""
        partial = known.partial if level == known.finest else None
        if partial is not None and partial.expected is not None:
            logits = partial.expected
        if partial is None or level > 1:
            return _selected(known, level, logits, partial)
        if self._chosen is None or self._chosen[0] is not logits:
            self._chosen = logits, _selected(known, level, logits, partial.before)
        return partial.correct(self._chosen[1], logits)


def _selected(known: Known, level: int, logits: np.ndarray, partial: Partial | None) -> np.ndarray:
    """Children of the nodes of a level, uint8 (n,), as many as are to be kept."""
    count = known.counts[level - 1]
    if level > 1:
        count = nodes_to_keep(count, SPARE, _WHOLE if partial is None else partial.unknown)
    elif known.finest >= known.start:
        of_finest = known.partial if partial is None else partial
        count = nodes_to_keep(count, known.surplus, _WHOLE if of_finest is None else of_finest.unknown)
    count = min(count, most_nodes(known.budget, known.counts, level - 1))
    return select_children(logits, count, partial)
