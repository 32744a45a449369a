"""Streams cut above stride 8: from the finest exact level down to where synthesis starts."""

from __future__ import annotations

from dataclasses import replace

from pccodec.entropy.geometry import LevelContext
from pccodec.entropy.prediction import predict_level
from pccodec.model.occupancy import OccupancyNetwork
from pccodec.model.upsampling import Known, most_nodes
from pccodec.sparse.neighbors import child_map
from pccodec.voxels import octree


def down_to_synthesis(known: Known, network: OccupancyNetwork) -> Known:
    """``known`` with the levels that the geometry network predicts down to the start of synthesis."""
    return down_to(known.start, known, network)


def down_to(target: int, known: Known, network: OccupancyNetwork) -> Known:
    """``known`` with level ``target``, 3 or coarser, as the geometry network predicts it, if it is finer."""
    if known.finest <= target:
        return known
    codes, neighbors = known.codes[known.finest], known.maps[known.finest]
    counts, partial = dict(known.counts), known.partial
    for level in range(known.finest - 1, target - 1, -1):
        occupancy = predict_level(
            network,
            LevelContext(neighbors, level, counts, codes),
            count=counts.get(level),
            most=most_nodes(known.budget, known.counts, level),
            partial=partial,
        )
        codes, neighbors = octree.expand(codes, occupancy), child_map(neighbors, occupancy)
        counts[level], partial = len(codes), None
    return replace(
        known, codes={target: codes}, maps={target: neighbors}, counts=counts, partial=None, exact=False
    )
