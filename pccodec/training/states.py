"""Truncation states: how much of a stream a training step lets the decoder have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pccodec.model.config import LATENT_LEVELS
from pccodec.model.occupancy import PASSES


@dataclass(frozen=True)
class State:
    """Truncation state: exact down to level ``finest``, ``active[l]`` ranks at levels 3, 2 and 1.

    Of the next level the first ``octants`` child bits of each node are known.
    """

    finest: int
    active: dict[int, int]
    octants: int = 0


@dataclass(frozen=True)
class StateConfig:
    """Probabilities of the truncation states.

    Attributes:
        finest: probability of each finest exact level.
        none: share of the steps in which no rank arrives at the finest exact level.
            Most streams have no ranks, so that is the state to be best in.
        full: with finer levels exact, the share of steps in which a coarser
            level has all its ranks; it has none in the others, since an encoder
            may leave ranks out.
        begun: share of the steps in which some octants of the next layer are known.

    Finest levels above 3 are those of a stream that is cut in its base layer; the
    geometry network then predicts ``X_3``.
    """

    finest: dict[int, float] = field(default_factory=lambda: {5: 0.02, 4: 0.06, 3: 0.52, 2: 0.24, 1: 0.16})
    none: float = 0.5
    full: float = 0.35
    begun: float = 0.3

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StateConfig:
        """From JSON values (which turn the integer keys of ``finest`` into strings)."""
        given = dict(values)
        if "finest" in given:
            given["finest"] = {int(level): float(share) for level, share in given["finest"].items()}
        return cls(**given)

    def draw(self, ranks: Mapping[int, int], rng: np.random.Generator) -> State:
        """A state; every number of ranks 1…K at its finest level is equally likely."""
        levels = list(self.finest)
        finest = int(rng.choice(levels, p=[self.finest[level] for level in levels]))
        active = {}
        for level in LATENT_LEVELS:
            if level < finest:
                active[level] = 0
            elif level == finest:
                some = ranks[level] and rng.random() >= self.none
                active[level] = int(rng.integers(1, ranks[level] + 1)) if some else 0
            else:
                active[level] = ranks[level] if rng.random() < self.full else 0
        begun = rng.random() < self.begun
        return State(finest, active, int(rng.integers(1, PASSES)) if begun else 0)

    def prefixes(self, ranks: Mapping[int, int]) -> dict[int, list[float]]:
        """Distribution (K+1,) of the active ranks of each latent level under :meth:`draw`."""
        out = {}
        for level in LATENT_LEVELS:
            k = ranks[level]
            at = self.finest.get(level, 0.0)
            finer = sum(p for finest, p in self.finest.items() if finest < level)
            coarser = sum(p for finest, p in self.finest.items() if finest > level)
            row = [0.0] + [at * (1 - self.none) / k] * k
            row[0] += (at * self.none if k else at) + coarser + finer * (1 - self.full)
            row[k] += finer * self.full
            out[level] = row
        return out
