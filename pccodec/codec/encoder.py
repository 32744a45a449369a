"""Encoder: points to one embedded stream."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pccodec import container
from pccodec.codec.checks import geometry_check
from pccodec.codec.effort import DEFAULT_EFFORT, choose_milestones, choose_surplus, effort_of
from pccodec.codec.latents import rank_layers
from pccodec.codec.tile_encoder import TileConfig, encode_tiles
from pccodec.container import Header
from pccodec.entropy.geometry import LevelContext, encode_level
from pccodec.errors import InputError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.sparse.neighbors import child_map, root_map
from pccodec.voxels.grid import voxelize
from pccodec.voxels.octree import Octree
from pccodec.voxels.tiles import split, tile_level


def encode(
    points: ArrayLike,
    *,
    voxel_size: float | None = None,
    bits: int | None = None,
    model: str | None = None,
    ranks: tuple[int, int, int] | None = None,
    tile_points: int | None = TileConfig.tile_points,
    effort: int = DEFAULT_EFFORT,
) -> bytes:
    """Encode points into one stream that may be cut after any byte behind its header.

    Args:
        points: (n, 3), any real dtype. Integer coordinates are kept exactly; others are
            put on a grid. Points that share a voxel are merged.
        voxel_size: edge of a voxel in units of the input.
        bits: bits an axis, instead of ``voxel_size``.
        model: name of a model or path of its file; None for the default.
        ranks: most latent ranks at strides 8, 4 and 2; None lets the encoder send those
            that are worth their bytes.
        tile_points: clouds of more voxels are coded in tiles of at most so many, which have no ranks;
            None never makes tiles.
        effort: 1…3, how much the encoder tries (:mod:`pccodec.codec.effort`).

    Raises:
        InputError: the points cannot be encoded.
        ModelError: the model is missing.
    """
    tries = effort_of(effort)
    grid, codes, _ = voxelize(points, voxel_size=voxel_size, bits=bits)
    loaded = store.load(model or store.DEFAULT)
    if ranks is not None and any(
        k > loaded.config.ranks[l] for l, k in zip(LATENT_LEVELS, ranks, strict=True)
    ):
        most = ",".join(str(loaded.config.ranks[level]) for level in LATENT_LEVELS)
        raise InputError(f"the model {loaded.name} has no more than {most} ranks at strides 8, 4, 2")
    level = grid.bits if tile_points is None else tile_level(codes, grid.bits, tile_points)
    if level < grid.bits:
        refuse_ranks_in_tiles(ranks, tile_points or 0)
        with tempfile.TemporaryDirectory() as folder:
            stream = io.BytesIO()
            config = TileConfig(tile_points=tile_points or 0)
            tiled = split(codes, grid, level, Path(folder))
            encode_tiles(tiled, stream, model=model, config=config)
            return stream.getvalue()
    tree = Octree.build(codes, grid.bits)
    maps = [root_map()]
    for level in range(grid.bits - 1, 0, -1):
        maps.insert(0, child_map(maps[0], tree.occupancy[level]))
    # Level 0 has no map: voxels have no children.
    maps.insert(0, np.empty((0, 27), dtype=np.int32))
    counts = {level: len(nodes) for level, nodes in enumerate(tree.codes)}
    geometry = [
        encode_level(loaded.geometry, _context(tree, maps, level), tree.occupancy[level])
        for level in range(grid.bits)
    ]
    limits = (0, 0, 0) if ranks is None and not tries.ranks else ranks
    latents = rank_layers(tree, maps, loaded, limits, [len(payload) for payload in geometry])
    for level, sent in latents.items():
        context = _context(tree, maps, level - 1, sent.symbols)
        geometry[level - 1] = encode_level(loaded.geometry, context, tree.occupancy[level - 1])
    k3, k2, k1 = (latents[level].symbols.shape[1] if level in latents else 0 for level in LATENT_LEVELS)
    header = Header(
        depth=grid.bits,
        counts=tuple(counts[level] for level in range(min(4, grid.bits))),
        checks=tuple(
            geometry_check(
                latents[level + 1].symbols if level + 1 in latents else None, tree.occupancy[level]
            )
            for level in range(grid.bits)
        ),
        ranks=(k3, k2, k1),
        model_id=loaded.id,
        origin=grid.origin,
        scale=grid.scale,
        is_integer=grid.is_integer,
        milestones=choose_milestones(tree, maps, loaded, tries),
        surplus=choose_surplus(tree, maps, loaded, tries),
    )
    payloads = [
        geometry[spec.level] if spec.kind == "G" else latents[spec.level].payloads[spec.rank - 1]
        for spec in header.layers
    ]
    return container.pack(header, payloads)


def refuse_ranks_in_tiles(ranks: tuple[int, int, int] | None, tile_points: int) -> None:
    """Raise InputError if ranks are asked for in a cloud of more than ``tile_points`` voxels."""
    if ranks is not None and any(ranks):
        raise InputError(
            f"ranks are not written in tiles: choose none, or larger tiles than {tile_points} points"
        )


def _context(
    tree: Octree, maps: list[np.ndarray], level: int, ranks: np.ndarray | None = None
) -> LevelContext:
    counts = {above: len(nodes) for above, nodes in enumerate(tree.codes)}
    return LevelContext(maps[level + 1], level, counts, tree.codes[level + 1], ranks)
