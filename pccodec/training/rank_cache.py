"""Latent ranks of simulated clouds: what the coder of the geometry layers hears before a layer.

python -m pccodec.training.rank_cache --model FILE --cache FILES
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pccodec.codec.expected_points import is_sparse
from pccodec.evaluation.command import command
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.latents import latent_ranks
from pccodec.model.store import Model
from pccodec.sparse.neighbors import level_maps
from pccodec.training.levels import CloudCache
from pccodec.voxels.octree import Octree


def cloud_ranks(model: Model, octree: Octree) -> dict[int, np.ndarray]:
    """All ranks of a cloud, int8 (n, K) by level; none of sparse clouds, which are sent without."""
    if is_sparse([len(codes) for codes in octree.codes]):
        return {}
    wanted = {level: k for level, k in model.config.ranks.items() if k and level < octree.depth}
    return latent_ranks(model.analysis, model.synthesis, octree, level_maps(octree), wanted)


class RankCache:
    """Ranks of the clouds of a :class:`CloudCache` in one file."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as stored:
            self._symbols = {level: stored[f"symbols{level}"] for level in LATENT_LEVELS}
            self._offsets = {level: stored[f"offsets{level}"] for level in LATENT_LEVELS}

    def __len__(self) -> int:
        return len(self._offsets[LATENT_LEVELS[0]]) - 1

    def ranks(self, index: int) -> dict[int, np.ndarray]:
        """Ranks int8 (n, K) of a cloud by level; levels without are left out."""
        found = {}
        for level, offsets in self._offsets.items():
            symbols = self._symbols[level][offsets[index] : offsets[index + 1]]
            if symbols.size:
                found[level] = symbols
        return found

    @classmethod
    def build(cls, model: Model, clouds: CloudCache, file: Path) -> RankCache:
        """Compute the ranks of all clouds with a model's analysis transform and store them in ``file``."""
        by_cloud = [cloud_ranks(model, clouds.octree(index)) for index in range(len(clouds))]
        stored: dict[str, Any] = {}
        for level in LATENT_LEVELS:
            none = np.zeros((0, model.config.ranks.get(level, 0)), dtype=np.int8)
            symbols = [ranks.get(level, none) for ranks in by_cloud]
            stored[f"symbols{level}"] = np.concatenate(symbols)
            stored[f"offsets{level}"] = np.cumsum([0] + [len(part) for part in symbols])
        np.savez(file, **stored)
        return cls(file)

    @classmethod
    def beside(cls, clouds: Path, model: Model, console: Console) -> RankCache:
        """A model's ranks of the clouds in a file, stored beside it when they are first asked for."""
        file = clouds.with_suffix(f".{model.id.hex()}.npz")
        if not file.exists():
            console.print(f"latent ranks of {clouds}")
            cls.build(model, CloudCache(clouds), file)
        return cls(file)


@command
def main() -> None:
    """Command line: computes the ranks ahead of the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="name or file")
    parser.add_argument("--cache", type=Path, required=True, nargs="+", help="simulated clouds")
    args = parser.parse_args()
    for file in args.cache:
        RankCache.beside(file, store.load(args.model), Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
