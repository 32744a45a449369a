"""The nodes of a tile, level by level, with those around it.

A tile is coded by itself, but not blindly: the shared level tells which nodes lie around it, and below
that the network guesses their children while the tile's own are coded. So the tile's faces do not look
like edges of the cloud, neither to the coder nor to the synthesis transform. The guesses follow from
the shared level and the tile alone, so any tile is decoded without the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from pccodec.entropy.geometry import LevelContext
from pccodec.sparse.neighbors import child_map, map_below, part_map
from pccodec.voxels import morton, octree
from pccodec.voxels.octree import Octree

REACH = 2
"""How many nodes deep the surroundings of a tile are, at each level."""


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
            around: those around it (``Surroundings``).
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
        keep[outside] = _within_reach(codes[outside], self.tile, height)
        return TileNodes(self.tile, height, codes[keep], outside[keep], part_map(neighbors, keep))


class Surroundings:
    """What lies around each tile at the shared level.

    Args:
        tiles: Morton codes of all tiles.
        nodes: the nodes of each tile, uint64.
        height: levels from the nodes up to the tiles.
    """

    def __init__(self, tiles: Sequence[int], nodes: Sequence[np.ndarray], height: int) -> None:
        self._tiles, self._nodes, self._height = tiles, nodes, height
        self._corners = morton.decode(np.array(tiles, dtype=np.uint64)).tolist()
        self._places = {tuple(corner): place for place, corner in enumerate(self._corners)}

    def around(self, place: int) -> np.ndarray:
        """Nodes of other tiles within reach of the tile at a place, uint64, in no order."""
        x, y, z = self._corners[place]
        found = [np.zeros(0, dtype=np.uint64)]
        for dx, dy, dz in product((-1, 0, 1), repeat=3):
            other = self._places.get((x + dx, y + dy, z + dz), place)
            if other != place:
                nodes = self._nodes[other]
                found.append(nodes[_within_reach(nodes, self._tiles[place], self._height)])
        return np.concatenate(found)


def _within_reach(codes: np.ndarray, tile: int, height: int) -> np.ndarray:
    """Which nodes lie at most ``REACH`` nodes from a tile, bool (n,)."""
    corner = morton.decode(np.array([tile], dtype=np.uint64))[0].astype(np.int64) << height
    coords = morton.decode(codes)
    inside: np.ndarray = (coords >= corner - REACH) & (coords < corner + (1 << height) + REACH)
    return inside.all(axis=1)
