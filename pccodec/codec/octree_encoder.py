"""Encoder of a cloud without tiles: one octree, its latent ranks and geometry layers, to one stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec import container
from pccodec.codec.checks import layer_check
from pccodec.codec.effort import Effort, choose_milestones, choose_surplus
from pccodec.codec.latents import RankLayers, rank_layers
from pccodec.container import Header
from pccodec.entropy.geometry import LevelContext, encode_level
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.sparse.neighbors import level_maps
from pccodec.voxels.grid import Grid
from pccodec.voxels.octree import Octree


@dataclass(frozen=True)
class _Layers:
    """What is sent: the payload of each ``G_l``, from l = 0 up, and the ranks by level, if there are any."""

    geometry: list[bytes]
    latents: dict[int, RankLayers]


def encode_octree(
    codes: np.ndarray, grid: Grid, model: Model, ranks: tuple[int, int, int] | None, effort: Effort
) -> bytes:
    """Encode voxels into one stream without tiles.

    Args:
        codes: sorted Morton codes of the voxels, uint64 (n,).
        grid: where they lie.
        model: the trained model.
        ranks: most latent ranks at strides 8, 4 and 2; None lets the encoder choose, if ``effort`` does.
        effort: what is tried.
    """
    tree = Octree.build(codes, grid.bits)
    maps = level_maps(tree)
    limits = (0, 0, 0) if ranks is None and not effort.ranks else ranks
    layers = _encode_layers(tree, maps, model, limits)
    header = _header(tree, maps, grid, model, layers.latents, effort)
    payloads = [
        layers.geometry[spec.level]
        if spec.kind == "G"
        else layers.latents[spec.level].payloads[spec.rank - 1]
        for spec in header.layers
    ]
    return container.pack(header, payloads, _checks(tree, header, layers.latents))


def _checks(tree: Octree, header: Header, latents: dict[int, RankLayers]) -> dict[int, int]:
    """Check values by level."""
    symbols = {level: sent.symbols for level, sent in latents.items()}
    return {
        level: layer_check(
            level, header.coarsest_checked, tree.codes[level], symbols.get(level + 1), tree.occupancy[level]
        )
        for level in header.checked
    }


def _encode_layers(
    tree: Octree, maps: list[np.ndarray], model: Model, limits: tuple[int, int, int] | None
) -> _Layers:
    counts = {level: len(nodes) for level, nodes in enumerate(tree.codes)}

    def geometry_layer(level: int, ranks: np.ndarray | None = None) -> bytes:
        context = LevelContext(maps[level + 1], level, counts, tree.codes[level + 1], ranks)
        return encode_level(model.geometry, context, tree.occupancy[level])

    geometry = [geometry_layer(level) for level in range(tree.depth)]
    latents = rank_layers(tree, maps, model, limits, [len(payload) for payload in geometry])
    # Ranks that are sent tell something of the geometry layer behind them.
    for level, sent in latents.items():
        geometry[level - 1] = geometry_layer(level - 1, sent.symbols)
    return _Layers(geometry, latents)


def _header(
    tree: Octree,
    maps: list[np.ndarray],
    grid: Grid,
    model: Model,
    latents: dict[int, RankLayers],
    effort: Effort,
) -> Header:
    k3, k2, k1 = (len(latents[level].payloads) if level in latents else 0 for level in LATENT_LEVELS)
    return Header(
        depth=grid.bits,
        counts=tuple(len(nodes) for nodes in tree.codes[: min(4, grid.bits)]),
        ranks=(k3, k2, k1),
        model_id=model.id,
        origin=grid.origin,
        scale=grid.scale,
        is_integer=grid.is_integer,
        milestones=choose_milestones(tree, maps, model, effort),
        surplus=choose_surplus(tree, maps, model, effort),
    )
