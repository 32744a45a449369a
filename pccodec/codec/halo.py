"""What lies beside a tile, so that its reconstruction does not end at its faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from pccodec.codec.tile_decoder import TileState
from pccodec.voxels import morton

MARGIN = 16
"""Width of the halo in voxels, at least one node."""


class Halo:
    """Nodes beside tiles.

    Args:
        tiles: Morton codes of all tiles.
        load: gives what is known of a tile by its place in ``tiles``.
    """

    def __init__(self, tiles: Sequence[int], load: Callable[[int], TileState]) -> None:
        self._load = load
        corners = morton.decode(np.array(tiles, dtype=np.uint64)).tolist()
        self._places = {tuple(corner): place for place, corner in enumerate(corners)}

    def around(self, state: TileState) -> np.ndarray:
        """Nodes of a tile's finest known level around it, where they are known, uint64 (n,)."""
        nothing = np.zeros(0, dtype=np.uint64)
        if state.finest == 0 or state.partial is not None:
            # What is known of a level in parts is known of one tile only.
            return nothing
        level = state.task.level - state.finest
        tile = morton.decode(np.array([state.task.code], dtype=np.uint64))[0].astype(np.int64)
        margin = max(1, MARGIN >> state.finest)
        low, high = (tile << level) - margin, (tile + 1 << level) + margin
        found = [nothing]
        for step in product((-1, 0, 1), repeat=3):
            place = self._places.get(tuple((tile + step).tolist()))
            if place is None or not any(step):
                continue
            other = self._load(place)
            if other.finest > state.finest:
                continue
            nodes = _ancestors(other.codes, state.finest - other.finest)
            coords = morton.decode(nodes)
            found.append(nodes[((coords >= low) & (coords < high)).all(axis=1)])
        return np.concatenate(found)


def _ancestors(codes: np.ndarray, levels: int) -> np.ndarray:
    """The nodes so many levels above sorted nodes."""
    above = codes >> np.uint64(3 * levels)
    return above[np.concatenate([[True], above[1:] != above[:-1]])]
