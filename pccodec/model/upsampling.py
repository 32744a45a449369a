"""Inference of the synthesis transform: from what is known of a cloud to its most probable voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pccodec.model.config import LATENT_LEVELS
from pccodec.model.synthesis import LevelInput, Synthesis, conditions
from pccodec.sparse.neighbors import child_map
from pccodec.voxels import octree


@dataclass(frozen=True)
class Latent:
    """Ranks of a level as they arrived.

    Attributes:
        symbols: integers (n, k), k ≤ K, zero where nothing arrived.
        active: int64 (n,), how many ranks of each node arrived.
    """

    symbols: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class Partial:
    """Child bits of the finest exact level, of which some may be known (a cut geometry layer).

    Attributes:
        occupancy: uint8 (n,), the known child bits, 0 where unknown.
        known: uint8 (n,), a set bit where the child bit is known.
        expected: float32 (n, 8), logits of the others given the known ones.
    """

    occupancy: np.ndarray
    known: np.ndarray
    expected: np.ndarray

    @property
    def share(self) -> float:
        """Share of the child bits that are known, 0…1."""
        return float(octree.POPCOUNT[self.known].mean()) / 8.0


@dataclass
class Known:
    """All that is known of a cloud.

    Attributes:
        codes: Morton codes of each exactly known level ≥ 1, by level.
        maps: neighbour maps int32 (n, 27) of these levels.
        counts: nodes by level, as far as known.
        latents: ranks that arrived, by level.
        partial: known part of the children of the finest exact level.
        budget: most voxels to upsample to; coarser levels may have a share (:meth:`most`).
    """

    codes: dict[int, np.ndarray]
    maps: dict[int, np.ndarray]
    counts: Mapping[int, int]
    latents: dict[int, Latent] = field(default_factory=dict)
    partial: Partial | None = None
    budget: int = 1 << 62

    @property
    def finest(self) -> int:
        """The finest exactly known level."""
        return min(self.codes)

    def most(self, level: int) -> int:
        """Upper limit on the nodes of a level.

        The budget, with twice the nodes that a surface has at coarser levels, whose features
        take more memory; and no more than finer levels have.
        """
        finer = [count for other, count in self.counts.items() if other < level]
        return min([self.budget >> max(0, 2 * min(level, LATENT_LEVELS[0]) - 1), *finer])

    def conditions(self, level: int) -> list[float]:
        """Conditions of the level network (:func:`pccodec.model.synthesis.conditions`)."""

        def growth(fine: int) -> float:
            below, above = self.counts.get(fine, 0), self.counts.get(fine + 1, 0)
            return math.log2(below / above) if below and above else 2.0

        return conditions(growth(level), growth(level - 1), growth(level - 2) if level >= 2 else 2.0)


def start_level(known: Known) -> int:
    """Where synthesis starts: level 3 (ranks live there), or the finest exact level if coarser."""
    return min(max(known.finest, LATENT_LEVELS[0]), max(known.codes))


def select_children(
    logits: np.ndarray, count: int | None, most: int, partial: Partial | None, every_node: bool
) -> np.ndarray:
    """Occupancy of the most probable children.

    Args:
        logits: (n, 8).
        count: children to keep; if unknown, as many as are expected.
        most: upper limit on children, of which certain ones are exempt.
        partial: child bits that are known; they are kept as they are.
        every_node: whether each node is known to have a child.

    Returns:
        uint8 (n,); nodes may be left without children unless ``every_node``.
    """
    if count is None:
        count = round(float((1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).sum()))
    score = logits.astype(np.float32, copy=True)
    # Ranks of certainty beyond any logit: known empty < open < best child of a childless node < known.
    if every_node:
        best = score.argmax(axis=1)
        rows = np.arange(len(score))
        if partial is None:
            score[rows, best] += 1e4
    if partial is not None:
        # The more is known, the more does it tell beside the synthesis transform's marginals.
        score += partial.share * (partial.expected - score)
        known, occupied = octree.unpack(partial.known), octree.unpack(partial.occupancy)
        score[known & ~occupied] = -np.inf
        if every_node:
            best = score.argmax(axis=1)
            childless = ~occupied.any(axis=1)
            rows = np.flatnonzero(childless & ~known.all(axis=1))
            score[rows, best[rows]] += 1e4
        score[occupied] = np.inf
    flat = score.reshape(-1)
    forced = int((flat > 5e3).sum())
    count = min(max(min(count, most), forced, 1), int((flat > -np.inf).sum()))
    chosen = np.zeros(flat.shape, dtype=bool)
    chosen[np.argpartition(-flat, count - 1)[:count]] = True
    return octree.pack(chosen.reshape(-1, 8))


class Upsampler:
    """Runs level after level; the encoder stops at each level to make its latent."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis.eval()

    def context(self, known: Known, level: int, inherited: Tensor | None) -> Tensor:
        """Context features (n, C) of an exactly known level."""
        return self._context(torch.from_numpy(known.maps[level]), known.conditions(level), level, inherited)

    def _context(self, neighbors: Tensor, given: list[float], level: int, inherited: Tensor | None) -> Tensor:
        told = torch.tensor([given]).expand(len(neighbors), -1)
        return self._synthesis.level(level).embed(LevelInput(neighbors, told, inherited), torch.float32)

    def predict(
        self, context: Tensor, neighbors: Tensor, level: int, latent: Latent | None
    ) -> tuple[Tensor, Tensor]:
        """Child logits (n, 8) and features (n, C) of a level from its context and ranks."""
        network = self._synthesis.level(level)
        y_hat, active = None, torch.zeros(len(context), dtype=torch.int64)
        if latent is not None and network.mask is not None:
            y_hat = torch.zeros(len(context), network.mask.features)
            y_hat[:, : latent.symbols.shape[1]] = torch.from_numpy(latent.symbols)
            active = torch.from_numpy(latent.active)
        out: tuple[Tensor, Tensor] = network(context, neighbors, y_hat, active)
        return out

    def inherit(self, level: int, features: Tensor, occupancy: np.ndarray) -> Tensor:
        """Features that the children of a level's nodes inherit."""
        node, octant = octree.children(occupancy)
        return self._synthesis.inherit(level, features, torch.from_numpy(node), torch.from_numpy(octant))

    def voxels(self, known: Known) -> np.ndarray:
        """Most probable voxels: sorted Morton codes, uint64, of about N_0 of them."""
        with torch.inference_mode():
            return self._voxels(known)

    def _voxels(self, known: Known) -> np.ndarray:
        level = start_level(known)
        codes, neighbors = known.codes[level], torch.from_numpy(known.maps[level])
        inherited: Tensor | None = None
        while True:
            context = self._context(neighbors, known.conditions(level), level, inherited)
            logits, features = self.predict(context, neighbors, level, known.latents.get(level))
            if level > known.finest:
                _, occupancy = octree.parents(known.codes[level - 1])
            else:
                at_finest = level == known.finest
                occupancy = select_children(
                    logits.numpy(),
                    known.counts.get(level - 1),
                    known.most(level - 1),
                    known.partial if at_finest else None,
                    every_node=at_finest,
                )
            codes = octree.expand(codes, occupancy)
            if level == 1:
                return codes
            # Level 3 starts afresh below predicted nodes too: that is what it has been trained for most.
            inherited = self.inherit(level, features, occupancy) if level - 1 != LATENT_LEVELS[0] else None
            neighbors = torch.from_numpy(child_map(neighbors.numpy(), occupancy))
            level -= 1
