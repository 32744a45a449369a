"""A stream of tiles by byte ranges: what is shared, the directories, and the bytes of each tile."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from pccodec import container
from pccodec.codec.coarse import down_to
from pccodec.codec.expected_points import is_sparse
from pccodec.codec.layers import decode_geometry, forget
from pccodec.codec.tile_counts import counted_levels, expected_counts
from pccodec.codec.tile_decoder import Piece, TileTask
from pccodec.codec.tile_nodes import REACH, Neighbourhood
from pccodec.container import Header, Layer, Stream, level_check
from pccodec.container.layout import node_budget, tile_budget
from pccodec.container.tiles import Directory, max_directory_size, parse_directory
from pccodec.errors import DamagedError, StreamError
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.model.store import Model
from pccodec.model.upsampling import Known, Upsampler
from pccodec.source import Source
from pccodec.sparse.neighbors import root_map
from pccodec.voxels import morton
from pccodec.voxels.grid import Grid
from pccodec.voxels.tiles import tile_level

logger = logging.getLogger(__name__)

_GAP = 1 << 12
"""Bytes between two ranges that are read along rather than left out by asking twice."""

_PART = 1 << 20
"""Voxels that are reconstructed at a time, about, while nothing is known of single tiles."""

_BATCH = 1 << 25
"""Bytes of tiles that are read ahead."""


@dataclass(frozen=True)
class _TileLayer:
    """A layer whose directory arrived.

    Attributes:
        level: ``l`` of ``G_l``.
        directory: its directory.
        bounds: where in the stream the payloads lie: tile ``i`` from ``bounds[i]`` to ``bounds[i+1]``.
    """

    level: int
    directory: Directory
    bounds: tuple[int, ...]


def header_of(source: Source) -> Header:
    """The header of a stream.

    Raises:
        StreamError: not a stream, or its header is damaged or missing.
    """
    return container.parse(source.read(0, container.MAX_HEADER)).header


class TileStream:
    """A stream of tiles: its shared part decoded, and access to the tiles.

    Args:
        source: the stream.
        layers: use only the first so many layers.
        max_bytes: use only the first so many bytes.
        strict: raise on damage.

    Attributes:
        header: the stream's header.
        grid: its grid.
        complete: whether the whole stream is there and used.
        known: what the shared layers tell. Of a prefix that ends within them, what the geometry network
            and the synthesis transform make of it at the shared level; sparse clouds stay as they are.
        tiles: Morton codes of the tiles, uint64, increasing; None where the shared level is not known.
            While no layer in tiles is there, they are larger cubes than later.

    Raises:
        StreamError: not a stream of tiles, or its header is damaged or missing.
        ModelError: the model that the stream needs is missing.
        DamagedError: the shared part or a directory is damaged and ``strict`` is set.
    """

    def __init__(
        self,
        source: Source,
        *,
        layers: int | None = None,
        max_bytes: int | None = None,
        strict: bool = False,
    ) -> None:
        self._source, self._strict = source, strict
        head = source.read(0, container.MAX_HEADER)
        stream = container.parse_source(source)
        self.header = header = stream.header
        if header.tiles is None:
            raise StreamError("the stream has no tiles")
        self._levels = header.tiles
        self.grid = Grid(header.origin, header.scale, header.depth, header.is_integer)
        self._limit = _limit(stream, layers, max_bytes)
        self.complete = self._limit == stream.size
        ends = [layer.end for layer in stream.layers if not header.in_tiles(layer.spec)]
        end = min(self._limit, max(ends, default=stream.header_size))
        rest = source.read(len(head), end) if end > len(head) else b""
        parsed = container.parse(head[:end] + rest).layers
        shared = [layer for layer in parsed if not header.in_tiles(layer.spec)]
        self._budget = self._node_budget(stream)
        model = store.load_by_id(header.model_id)
        known = self._decode_shared(shared, model, stream.size is not None)
        if stream.damage is not None and known.finest == header.depth - header.announced:
            self.report(f"the table behind the base layer ({stream.damage})", known.finest)
        self._is_exact = known.finest == header.tiles.shared
        self.known = known if is_sparse(header.counts) else _down_to(header.tiles.shared, known, model)
        self.tiles: np.ndarray | None = None
        self._layers: list[_TileLayer] = []
        if self.known.finest == header.tiles.shared:
            count = self._cut(header.tiles.tile)
            if self._is_exact and count <= tile_budget(self._limit):
                self._read_directories([layer for layer in stream.layers if header.in_tiles(layer.spec)])
            if not self._layers:
                # Nothing is known of single tiles: the fewer parts the better.
                self._cut(max(header.tiles.tile, self._part_level()))

    def _cut(self, level: int) -> int:
        """Cut the nodes of the shared level into cubes of edge ``2**level``; how many there are."""
        codes = self.known.codes[self._levels.shared]
        self.tiles, firsts = np.unique(
            codes >> np.uint64(3 * (level - self._levels.shared)), return_index=True
        )
        self._level = level
        self._nodes = np.split(codes, firsts[1:])
        self._places = Neighbourhood(self.tiles.tolist())
        return len(self.tiles)

    def _part_level(self) -> int:
        """The coarsest level whose cubes are expected to hold no more voxels than a large tile."""
        codes = self.known.codes[self._levels.shared]
        voxels = min(self.header.counts[0], self._budget)
        return self._levels.shared + tile_level(
            codes, self.header.depth - self._levels.shared, _PART * len(codes) // voxels, least=0
        )

    def _node_budget(self, stream: Stream) -> int:
        """Voxels that may be predicted while no N_3 is verified: the bytes up to there count."""
        fine = (layer.offset for layer in stream.layers if layer.spec.level < len(self.header.counts) - 1)
        end = next(fine, self._limit)
        return node_budget(max(0, min(self._limit, end) - stream.header_size))

    def _decode_shared(self, layers: Sequence[Layer], model: Model, vouched: bool) -> Known:
        """What the shared layers tell; ``vouched`` says whether the lengths of all layers are known."""
        header, depth, counts = self.header, self.header.depth, dict(enumerate(self.header.counts))
        root = np.zeros(1, dtype=np.uint64)
        known = Known({depth: root}, {depth: root_map()}, {**counts, depth: 1}, surplus=header.surplus)
        for layer in layers:
            if not (layer.complete or layer.data):
                break
            level = layer.spec.level
            try:
                decode_geometry(
                    known,
                    layer.data,
                    layer.complete,
                    model,
                    check=layer.check,
                    coarsest=header.coarsest_checked,
                    count=counts.get(level),
                    most=header.max_nodes(level),
                    milestones=header.milestones_at(level),
                )
            except DamagedError as error:
                forget(known, header.unverified(level))
                self.report(f"layer {layer.spec.name} ({error})", known.finest)
                break
            if not layer.complete:
                break
        if known.finest >= len(header.counts) or not vouched:
            known.budget = self._budget
        return known

    def report(self, damage: str, finest: int, in_tile: bool = False) -> None:
        """Warn of damage, or raise ``DamagedError`` if the stream is decoded strictly.

        Args:
            damage: the layer and what is wrong with it.
            finest: the finest level that is intact.
            in_tile: whether it concerns one tile only.
        """
        where = " of a tile" if in_tile else ""
        message = f"the stream is damaged in {damage}{where}"
        if self._strict:
            raise DamagedError(message)
        logger.warning("%s; decoded up to stride %d%s", message, 1 << finest, " there" if where else "")

    def _read_directories(self, layers: Sequence[Layer]) -> None:
        assert self.tiles is not None
        count = len(self.tiles)
        for layer in layers:
            rows = 0 if self._layers else len(counted_levels(self.header))
            size = min(max_directory_size(count, rows, layer.length), layer.length)
            data = self._source.read(layer.offset, min(layer.offset + size, self._limit))
            try:
                directory, start = parse_directory(data, count, rows, layer.length)
                if layer.check is not None and level_check(data[:start]) != layer.check:
                    raise StreamError("the check value of its directory does not match")
            except StreamError as error:
                # In a cut directory, what looks like damage may be the cut.
                if len(data) == size:
                    self.report(f"layer {layer.spec.name} ({error})", layer.spec.level + 1)
                break
            bounds = accumulate(directory.lengths, initial=layer.offset + start)
            self._layers.append(_TileLayer(layer.spec.level, directory, tuple(bounds)))

    def select(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Indices of the tiles that hold voxels from ``low`` to ``high``, both (3,), included."""
        assert self.tiles is not None
        corner = morton.decode(self.tiles).astype(np.int64) << self._level
        inside = (corner <= high) & (corner + (1 << self._level) > low)
        return np.flatnonzero(inside.all(axis=1))

    def bytes_for(self, selected: Sequence[int]) -> int:
        """Bytes that some tiles take, and what all need: the header, shared layers and directories."""
        size, end = 0, 0
        for layer in self._layers:
            # A directory stands between the payloads of two layers, and all that is shared before the first.
            size += layer.bounds[0] - end
            end = layer.bounds[-1]
            spans = ((layer.bounds[index], layer.bounds[index + 1]) for index in selected)
            size += sum(max(0, min(stop, self._limit) - start) for start, stop in spans)
        return size if self._layers else self._limit

    def tasks(self, selected: Sequence[int]) -> Iterator[TileTask]:
        """The tiles of some indices, which increase, each with its bytes."""
        batch: list[int] = []
        size = 0
        for index in selected:
            batch.append(index)
            size += sum(layer.directory.lengths[index] for layer in self._layers)
            if size > _BATCH:
                yield from self._read_tiles(batch)
                batch, size = [], 0
        yield from self._read_tiles(batch)

    def _read_tiles(self, batch: Sequence[int]) -> Iterator[TileTask]:
        payloads = [self._payloads(layer.bounds, batch) for layer in self._layers]
        for place, index in enumerate(batch):
            pieces = tuple(
                self._piece(layer, index, data[place])
                for layer, data in zip(self._layers, payloads, strict=True)
            )
            yield self._task(index, pieces)

    def _payloads(self, bounds: Sequence[int], batch: Sequence[int]) -> list[bytes]:
        """Payloads of some tiles of a layer, or what there is of them, by few reads."""
        spans: list[list[int]] = []
        for index in batch:
            start, stop = bounds[index], min(bounds[index + 1], self._limit)
            if stop <= start:
                continue
            if spans and start - spans[-1][1] <= _GAP:
                spans[-1][1] = stop
            else:
                spans.append([start, stop])
        reads = [(start, self._source.read(start, stop)) for start, stop in spans]
        starts = [start for start, _ in reads]
        payloads = []
        for index in batch:
            start, stop = bounds[index], min(bounds[index + 1], self._limit)
            if stop <= start:
                payloads.append(b"")
                continue
            first, data = reads[bisect_right(starts, start) - 1]
            payloads.append(data[start - first : stop - first])
        return payloads

    def _piece(self, layer: _TileLayer, index: int, data: bytes) -> Piece:
        directory = layer.directory
        complete = len(data) == directory.lengths[index]
        most = self.header.max_nodes(layer.level)
        return Piece(layer.level, data, complete, directory.checks[index], most)

    def _task(self, index: int, pieces: tuple[Piece, ...]) -> TileTask:
        assert self.tiles is not None
        nodes, whole = self._nodes[index], sum(map(len, self._nodes))
        shares = [row[index] for row in self._layers[0].directory.shares] if self._layers else []
        return TileTask(
            model_id=self.header.model_id,
            depth=self.header.depth,
            code=int(self.tiles[index]),
            level=self._level,
            shared=self._levels.shared,
            nodes=nodes,
            around=self._places.around(
                index, self._level - self._levels.shared, REACH, self._nodes.__getitem__
            ),
            counts=expected_counts(self.header, whole, len(nodes), shares),
            pieces=pieces,
            surplus=self.header.surplus,
            exact=self._is_exact,
            budget=-(-self._budget * len(nodes) // whole),
        )


def _down_to(level: int, known: Known, model: Model) -> Known:
    """``known`` with the levels down to ``level`` as they are most probable, if it is finer."""
    known = down_to(max(level, LATENT_LEVELS[0]), known, model.geometry)
    if known.finest <= level:
        return known
    # Of these nodes come no features: the tiles find them anew, with what lies around them.
    nodes = Upsampler(model.synthesis).nodes(known, level)
    counts = {**known.counts, level: len(nodes)}
    return replace(known, codes={level: nodes}, maps={}, counts=counts, partial=None, exact=False)


def _limit(stream: Stream, layers: int | None, max_bytes: int | None) -> int:
    """Bytes of the stream that are there and used."""
    limit = stream.bytes_here
    if layers is not None:
        limit = min(limit, container.prefix_size(stream, layers=layers))
    if max_bytes is not None:
        limit = min(limit, container.prefix_size(stream, max_bytes=max_bytes))
    return limit
