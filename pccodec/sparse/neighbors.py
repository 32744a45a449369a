"""3x3x3 neighbour maps between the nodes of an octree level.

A map is int32 (n, 27). Column ``9*(dx+1) + 3*(dy+1) + (dz+1)`` holds the index
of the node at offset ``(dx, dy, dz)``, or ``n`` where no node is: a feature
table with one zero row at its end then needs no mask. Column 13 is the node
itself and column ``26 - k`` is the opposite of column ``k``.

A level's map follows from its parent's map without a search: a neighbour of a
child lies in a known octant of a known neighbour of the parent.
"""

from __future__ import annotations

import numpy as np

from pccodec.voxels import octree

KERNEL = 27
CENTER = 13


def _octant_tables() -> tuple[np.ndarray, np.ndarray]:
    """For each octant and offset: the parent's map column, and the octant there."""
    column = np.empty((8, KERNEL), dtype=np.int64)
    octant = np.empty((8, KERNEL), dtype=np.int64)
    for o in range(8):
        bits = np.array([o >> 2 & 1, o >> 1 & 1, o & 1])
        for k in range(KERNEL):
            target = bits + np.array([k // 9 - 1, k // 3 % 3 - 1, k % 3 - 1])
            above, inside = target >> 1, target & 1
            column[o, k] = (above + 1) @ np.array([9, 3, 1])
            octant[o, k] = inside @ np.array([4, 2, 1])
    return column, octant


PARENT_COLUMN, PARENT_OCTANT = _octant_tables()
"""int64 (8, 27): where the neighbour of octant ``o`` at offset ``k`` is found."""


def root_map(nodes: int = 1) -> np.ndarray:
    """Map of ``nodes`` nodes without any neighbours but themselves (octree roots)."""
    neighbors = np.full((nodes, KERNEL), nodes, dtype=np.int32)
    neighbors[:, CENTER] = np.arange(nodes)
    return neighbors


def map_below(tree: octree.Octree) -> np.ndarray:
    """Map int32 (n, 27) of the finest nodes of an octree."""
    neighbors = root_map()
    for occupancy in reversed(tree.occupancy):
        neighbors = child_map(neighbors, occupancy)
    return neighbors


def level_maps(tree: octree.Octree, roots: int = 1) -> list[np.ndarray]:
    """Maps int32 (n, 27) of all levels of an octree with so many roots, the finest first.

    That of level 0 is empty, (0, 27): voxels have no children, and nothing asks for it.
    """
    maps = [root_map(roots)]
    for occupancy in reversed(tree.occupancy[1:]):
        maps.append(child_map(maps[-1], occupancy))
    return [np.empty((0, KERNEL), dtype=np.int32), *reversed(maps)]


def part_map(neighbors: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Map int32 (m, 27) of those nodes of a map (n, 27) where ``keep``, bool (n,), is set."""
    place = np.full(len(keep) + 1, int(keep.sum()), dtype=np.int32)
    place[:-1][keep] = np.arange(place[-1], dtype=np.int32)
    part: np.ndarray = place[neighbors[keep]]
    return part


def child_map(parent: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Map of the children of a level from the level's own map.

    Args:
        parent: int32 (m, 27), the map of the parents.
        occupancy: uint8 (m,), which children of each parent exist.

    Returns:
        int32 (n, 27), n the number of children, in Morton order.
    """
    node, octant = octree.children(occupancy)
    count = len(node)
    # One row of eight child indices a parent; the last row serves absent parents.
    slots = np.full((len(occupancy) + 1, 8), count, dtype=np.int32)
    slots[node, octant] = np.arange(count, dtype=np.int32)
    flat = slots.reshape(-1)
    neighbors = np.empty((count, KERNEL), dtype=np.int32)
    for o in range(8):
        mine = np.flatnonzero(octant == o)
        above = np.take(parent, node[mine], axis=0)[:, PARENT_COLUMN[o]]
        above <<= 3
        above += PARENT_OCTANT[o].astype(np.int32)
        neighbors[mine] = np.take(flat, above)
    return neighbors
