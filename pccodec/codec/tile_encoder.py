"""Encoder of clouds in tiles: one coarse octree for all, and each tile's finer levels by themselves."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from pccodec.codec.checks import geometry_check, layer_check
from pccodec.codec.milestones import all_milestones
from pccodec.codec.tile_counts import expected_counts, shares_of
from pccodec.codec.tile_nodes import REACH, Neighbourhood, TileNodes
from pccodec.container import (
    MIN_SHARED,
    Header,
    TileLevels,
    level_check,
    pack_header,
    pack_table,
    point_budget,
)
from pccodec.container.layout import POINTS_PER_BYTE, tile_budget
from pccodec.container.tiles import Directory
from pccodec.entropy.geometry import LevelContext, encode_inside, encode_level
from pccodec.errors import InputError
from pccodec.model import store
from pccodec.model.store import Model
from pccodec.sparse.neighbors import child_map, root_map
from pccodec.voxels.octree import Octree, ancestors, parents
from pccodec.voxels.tiles import Tile, TiledCloud
from pccodec.work import Serial, Workers


@dataclass(frozen=True)
class TileConfig:
    """Limits on what the tiles of a stream share.

    Attributes:
        shared_nodes: most nodes of the shared level S.
        shared_share: most that the shared layers may take of the stream, in parts of one, if that is
            more than what a tile takes on average. A reader of any region has to fetch them.
    """

    shared_nodes: int = 1 << 18
    shared_share: float = 0.03


@dataclass(frozen=True)
class _TileJob:
    """What a worker needs to encode a tile; the check values of tile layers are not in the header yet."""

    tile: Tile
    around: np.ndarray
    header: Header
    shared_nodes: int
    model: str


@dataclass(frozen=True)
class _CodedTile:
    """A tile's payloads and check values, from level S-1 down to 0, and its shares."""

    payloads: list[bytes]
    checks: list[int]
    shares: tuple[int, ...]


def encode_tiles(
    cloud: TiledCloud,
    out: IO[bytes],
    *,
    model: str | None = None,
    config: TileConfig | None = None,
    workers: Workers | None = None,
    folder: Path | None = None,
) -> None:
    """Encode a cloud in tiles into one stream; no more than a few tiles are in memory at a time.

    Args:
        cloud: the tiles.
        out: where the stream is written, from its current position on.
        model: name of a model or path of its file; None for the default.
        config: limits on the shared part.
        workers: who encodes the tiles; the stream is the same whoever does.
        folder: where temporary files go.

    Raises:
        InputError: the cloud has no tiles, or too many for its size.
        ModelError: the model is missing.
    """
    if not cloud.tiles:
        raise InputError("the cloud has no points")
    config, workers, model = config or TileConfig(), workers or Serial(), model or store.DEFAULT
    loaded = store.load(model)
    counts = _level_counts(cloud, workers)
    finest = _shared_level(counts, cloud.level, config.shared_nodes)
    nodes = list(workers.run(partial(_level_codes, level=finest), cloud.tiles))
    shared = _encode_shared(np.concatenate(nodes), finest, cloud.grid.bits, counts, loaded)
    level = _affordable(shared, counts, cloud.level, max(config.shared_share, 1 / len(cloud.tiles)))
    nodes = [ancestors(part, level - finest) for part in nodes]
    places = Neighbourhood([tile.code for tile in cloud.tiles])
    header = Header(
        depth=cloud.grid.bits,
        counts=tuple(counts[: min(4, cloud.grid.bits)]),
        ranks=(0, 0, 0),
        model_id=loaded.id,
        origin=cloud.grid.origin,
        scale=cloud.grid.scale,
        is_integer=cloud.grid.is_integer,
        tiles=TileLevels(cloud.level, level),
        milestones=all_milestones(cloud.grid.bits),
    )
    jobs = (
        _TileJob(
            tile,
            places.around(place, cloud.level - level, REACH, nodes.__getitem__),
            header,
            counts[level],
            model,
        )
        for place, tile in enumerate(cloud.tiles)
    )
    with ExitStack() as stack:
        spools = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(level)]
        directories = _spool(workers.run(_encode_tile, jobs), spools)
        layers = [shared[l] for l in range(cloud.grid.bits - 1, level - 1, -1)]
        _write(out, header, layers, directories, spools)


@dataclass(frozen=True)
class _SharedLayer:
    """A layer's payload, the nodes that it leads to, uint64, and its child bits, uint8."""

    payload: bytes
    codes: np.ndarray
    occupancy: np.ndarray


def _level_counts(cloud: TiledCloud, workers: Workers) -> list[int]:
    """N_0 … N_D of the whole cloud."""
    counts = [0] * (cloud.level + 1)
    for found in workers.run(partial(_count_levels, top=cloud.level), cloud.tiles):
        counts = [total + count for total, count in zip(counts, found, strict=True)]
    codes = np.array([tile.code for tile in cloud.tiles], dtype=np.uint64)
    for _ in range(cloud.level, cloud.grid.bits):
        codes, _ = parents(codes)
        counts.append(len(codes))
    return counts


def _count_levels(tile: Tile, top: int) -> list[int]:
    return [len(codes) for codes in Octree.build(tile.codes(), top).codes]


def _level_codes(tile: Tile, level: int) -> np.ndarray:
    """Nodes of ``X_level`` in a tile, uint64."""
    return Octree.build(tile.codes(), level).codes[level]


def _shared_level(counts: list[int], top: int, most: int) -> int:
    """The finest level, from MIN_SHARED to ``top``, that has at most so many nodes."""
    return next((level for level in range(MIN_SHARED, top) if counts[level] <= most), top)


def _encode_shared(
    codes: np.ndarray, finest: int, depth: int, counts: list[int], model: Model
) -> dict[int, _SharedLayer]:
    """Layers G_{D-1} … G_finest by level, of the nodes uint64 of ``X_finest``."""
    tree = Octree.build(codes, depth - finest)
    neighbors = root_map()
    layers = {}
    known = dict(enumerate(counts))
    for level in range(depth - 1, finest - 1, -1):
        occupancy = tree.occupancy[level - finest]
        context = LevelContext(neighbors, level, known, tree.codes[level + 1 - finest])
        payload = encode_level(model.geometry, context, occupancy)
        layers[level] = _SharedLayer(payload, tree.codes[level - finest], occupancy)
        neighbors = child_map(neighbors, occupancy)
    return layers


def _affordable(shared: dict[int, _SharedLayer], counts: list[int], top: int, share: float) -> int:
    """The finest level whose layers and those above take at most ``share`` of the stream, at most ``top``."""
    if not shared:
        return top
    finest = min(shared)
    # Finer layers take at least as many bytes a node as the finest one that is known, as a rule.
    finer = len(shared[finest].payload) * sum(counts[:finest]) / counts[finest]
    sizes = {level: len(layer.payload) for level, layer in shared.items()}
    whole = finer + sum(sizes.values())
    for level in range(finest, top):
        if sum(size for other, size in sizes.items() if other >= level) <= share * whole:
            return level
    return top


def _encode_tile(job: _TileJob) -> _CodedTile:
    levels, depth = job.header.tiles, job.header.depth
    assert levels
    network = store.load(job.model).geometry
    tree = Octree.build(job.tile.codes(), levels.tile)
    true = dict(enumerate(map(len, tree.codes)))
    shares = shares_of(job.header, job.shared_nodes, true)
    counts = {level: true[level] for level in range(levels.shared, levels.tile + 1)}
    counts |= expected_counts(job.header, job.shared_nodes, true[levels.shared], shares)
    nodes = TileNodes.begin(
        job.tile.code,
        levels.tile - levels.shared,
        tree.codes[levels.shared],
        job.around,
        depth - levels.shared,
    )
    payloads, checks = [], []
    for level in range(levels.shared - 1, -1, -1):
        occupancy = np.zeros(len(nodes.codes), dtype=np.uint8)
        occupancy[~nodes.outside] = tree.occupancy[level]
        payload, occupancy = encode_inside(network, nodes.context(level, counts), occupancy)
        payloads.append(payload)
        checks.append(geometry_check(None, tree.occupancy[level]))
        counts[level] = true[level]
        if level:
            nodes = nodes.below(occupancy)
    return _CodedTile(payloads, checks, shares)


def _spool(tiles: Iterable[_CodedTile], spools: Sequence[IO[bytes]]) -> list[Directory]:
    """Append each tile's payloads to one file a layer; the layers' directories."""
    coded = []
    for tile in tiles:
        for spool, payload in zip(spools, tile.payloads, strict=True):
            spool.write(payload)
        coded.append(([len(payload) for payload in tile.payloads], tile.checks, tile.shares))
    lengths, checks, shares = zip(*coded, strict=True)
    rows = tuple(zip(*shares, strict=True))
    return [
        Directory(length, check, () if index else rows)
        for index, (length, check) in enumerate(
            zip(zip(*lengths, strict=True), zip(*checks, strict=True), strict=True)
        )
    ]


def _write(
    out: IO[bytes],
    header: Header,
    shared: list[_SharedLayer],
    directories: list[Directory],
    spools: Sequence[IO[bytes]],
) -> None:
    packed = [directory.pack() for directory in directories]
    sizes = [len(head) + sum(directory.lengths) for head, directory in zip(packed, directories, strict=True)]
    lengths = [len(layer.payload) for layer in shared]
    missing = header.counts[0] - point_budget(sum(lengths) + sum(sizes))
    if missing > 0:
        # As in pack: zeros behind the last payload change nothing but the budget.
        zeros = -(-missing // POINTS_PER_BYTE)
        spools[-1].write(bytes(zeros))
        *before, last = directories[-1].lengths
        directories[-1] = replace(directories[-1], lengths=(*before, last + zeros))
        packed[-1] = directories[-1].pack()
        sizes[-1] = len(packed[-1]) + last + zeros + sum(before)
    if len(directories[0].lengths) > tile_budget(sum(lengths) + sum(sizes)):
        tiles, points = len(directories[0].lengths), header.counts[0]
        raise InputError(f"{tiles} tiles are too many for {points} points: make them larger")
    lengths += sizes
    coarsest, levels = header.coarsest_checked, [spec.level for spec in header.layers]
    checks = [
        *(
            layer_check(level, coarsest, layer.codes, None, layer.occupancy)
            for level, layer in zip(levels, shared, strict=False)
        ),
        *map(level_check, packed),
    ]
    by_level = dict(zip(levels, checks, strict=True))
    out.write(pack_header(header, lengths, by_level))
    for layer in shared[: header.announced]:
        out.write(layer.payload)
    out.write(pack_table(header, lengths, by_level))
    for layer in shared[header.announced :]:
        out.write(layer.payload)
    for head, spool in zip(packed, spools, strict=True):
        out.write(head)
        spool.seek(0)
        shutil.copyfileobj(spool, out)
