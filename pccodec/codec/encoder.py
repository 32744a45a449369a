"""Encoder: points to one embedded stream."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pccodec.codec.config import EncodeConfig
from pccodec.codec.effort import effort_of
from pccodec.codec.octree_encoder import encode_octree
from pccodec.codec.tile_encoder import encode_tiles
from pccodec.errors import InputError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.voxels.grid import Grid, voxelize
from pccodec.voxels.tiles import split, tile_level


def encode(
    points: ArrayLike,
    *,
    voxel_size: float | None = None,
    bits: int | None = None,
    model: str | None = None,
    ranks: tuple[int, int, int] | None = None,
    tile_points: int | None = EncodeConfig.tile_points,
    effort: int = EncodeConfig.effort,
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
        tile_points: clouds of more voxels are coded in tiles, each of at most an eighth as many, which have
            no ranks; None never makes tiles.
        effort: 1…3, how much the encoder tries (:mod:`pccodec.codec.effort`).

    Raises:
        InputError: the points cannot be encoded.
        ModelError: the model is missing.
    """
    config = EncodeConfig(
        voxel_size=voxel_size, bits=bits, model=model, ranks=ranks, tile_points=tile_points, effort=effort
    )
    return encode_points(points, config)


def encode_points(points: ArrayLike, config: EncodeConfig) -> bytes:
    """As :func:`encode`, with its choices in one object."""
    effort = effort_of(config.effort)
    grid, codes, _ = voxelize(points, voxel_size=config.voxel_size, bits=config.bits)
    model = _load_model(config)
    tiled = config.makes_tiles(len(codes))
    level = tile_level(codes, grid.bits, config.most_in_tile) if tiled else grid.bits
    if level < grid.bits:
        return _encode_in_tiles(codes, grid, level, config)
    return encode_octree(codes, grid, model, config.ranks, effort)


def _load_model(config: EncodeConfig) -> Model:
    """The model to encode with, which has the ranks that are asked for."""
    model = store.load(config.model or store.DEFAULT)
    most = [model.config.ranks[level] for level in LATENT_LEVELS]
    if config.ranks is not None and any(k > limit for k, limit in zip(config.ranks, most, strict=True)):
        listed = ",".join(map(str, most))
        raise InputError(f"the model {model.name} has no more than {listed} ranks at strides 8, 4, 2")
    return model


def _encode_in_tiles(codes: np.ndarray, grid: Grid, level: int, config: EncodeConfig) -> bytes:
    """The stream of sorted voxels, uint64 (n,), in tiles with an edge of ``2**level`` voxels."""
    config.refuse_ranks_in_tiles()
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        encode_tiles(split(codes, grid, level, Path(folder)), stream, model=config.model)
    return stream.getvalue()
