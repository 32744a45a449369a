"""The nodes of a tile, level by level, with those around it.

A tile is coded by itself, but not blindly: the shared level tells which nodes lie around it, and below
that the network guesses their children while the tile's own are coded. So the tile's faces do not look
like edges of the cloud, neither to the coder nor to the synthesis transform. The guesses follow from
the shared level and the tile alone, so any tile is decoded without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from pccodec.entropy.geometry import LevelContext
from pccodec.sparse.neighbors import child_map, map_below, part_map
from pccodec.voxels import morton, octree
from pccodec.voxels.octree import Octree

REACH = 2
"""How many nodes deep the surroundings of a tile are when it is coded."""


@dataclass(frozen=True)
class TileNodes:
    """Nodes of a level in and around a tile.

    Attributes:
        tile: Morton code of the tile.
        height: levels from the nodes up to the tile.
        codes: of all nodes, uint64 (n,), increasing.
        outside: bool (n,), which nodes are not the tile's.
        neighbors: int32 (n, 27), the neighbour map.
    """

    tile: int
    height: int
    codes: np.ndarray
    outside: np.ndarray
    neighbors: np.ndarray

    @classmethod
    def begin(cls, tile: int, height: int, nodes: np.ndarray, around: np.ndarray, depth: int) -> TileNodes:
        """The nodes where a tile begins.

        Args:
            tile: Morton code of the tile.
            height: levels from the nodes up to the tile.
            nodes: the tile's own, uint64, increasing.
            around: those around it, ``REACH`` nodes deep.
            depth: levels from the nodes up to the root.
        """
        codes = np.sort(np.concatenate([nodes, around]))
        outside = codes >> np.uint64(3 * height) != tile
        return cls(tile, height, codes, outside, map_below(Octree.build(codes, depth)))

    @property
    def own(self) -> np.ndarray:
        """The tile's own nodes, uint64, increasing."""
        return self.codes[~self.outside]

    def context(self, level: int, counts: Mapping[int, int]) -> LevelContext:
        """Of the layer ``G_level`` that gives the nodes' children; ``counts`` are the tile's."""
        return LevelContext(self.neighbors, level, counts, self.codes, outside=self.outside)

    def below(self, occupancy: np.ndarray) -> TileNodes:
        """The children, of those around the tile the ones within reach.

        Args:
            occupancy: uint8 (n,), the child bits of all nodes.
        """
        height = self.height + 1
        codes = octree.expand(self.codes, occupancy)
        neighbors = child_map(self.neighbors, occupancy)
        outside = np.repeat(self.outside, octree.POPCOUNT[occupancy])
        keep = ~outside
        keep[outside] = _within_reach(codes[outside], self.tile, height, REACH)
        return TileNodes(self.tile, height, codes[keep], outside[keep], part_map(neighbors, keep))


class Neighbourhood:
    """Tiles by where they lie.

    Args:
        tiles: Morton codes of the tiles.
    """

    def __init__(self, tiles: Sequence[int]) -> None:
        self._tiles = tiles
        self._corners = morton.decode(np.array(tiles, dtype=np.uint64)).tolist()
        self._places = {tuple(corner): place for place, corner in enumerate(self._corners)}

    def around(
        self, place: int, height: int, reach: int, nodes: Callable[[int], np.ndarray | None]
    ) -> np.ndarray:
        """Nodes around a tile, uint64, in no order.

        Args:
            place: the tile's place among the tiles.
            height: levels from the nodes up to the tiles.
            reach: how many nodes deep.
            nodes: gives the nodes of the tile at a place, uint64, or None if they are not known.
        """
        x, y, z = self._corners[place]
        found = [np.zeros(0, dtype=np.uint64)]
        for dx, dy, dz in product((-1, 0, 1), repeat=3):
            other = self._places.get((x + dx, y + dy, z + dz), place)
            beside = nodes(other) if other != place else None
            if beside is not None:
                found.append(beside[_within_reach(beside, self._tiles[place], height, reach)])
        return np.concatenate(found)


def _within_reach(codes: np.ndarray, tile: int, height: int, reach: int) -> np.ndarray:
    """Which nodes, uint64 (n,), lie at most ``reach`` of their edges from a tile, bool (n,)."""
    corner = morton.decode(np.array([tile], dtype=np.uint64))[0].astype(np.int64) << height
    coords = morton.decode(codes)
    inside: np.ndarray = np.logical_and.reduce(
        (coords >= corner - reach) & (coords < corner + (1 << height) + reach), axis=1
    )
    return inside
