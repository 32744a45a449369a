"""Streams of tiles: lossless, cut anywhere, damaged, forged, by regions, the same whoever does the work."""

from __future__ import annotations

import io
import logging
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pccodec import codec, container
from pccodec.codec.region import Box, decode_parts, decode_region
from pccodec.codec.tile_counts import counted_levels, expected_counts, shares_of
from pccodec.codec.tile_encoder import TileConfig, encode_tiles
from pccodec.codec.tile_stream import TileStream
from pccodec.codec.tiles import tile_voxels
from pccodec.container import Header, TileLevels
from pccodec.container.tiles import Directory, max_directory_size, parse_directory
from pccodec.errors import DamagedError, InputError, StreamError
from pccodec.evaluation.metrics import Reference
from pccodec.source import BytesSource
from pccodec.voxels import morton
from pccodec.voxels.grid import voxelize
from pccodec.voxels.octree import Octree, ancestors
from pccodec.voxels.tiles import TiledCloud, split, tile_level


class OutOfOrder:
    """Workers that finish later items first, three at a time, each with pickled copies."""

    def run(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        def done(batch: deque[Any]) -> list[Any]:
            copies = [pickle.loads(pickle.dumps(item)) for item in batch]
            results = [pickle.loads(pickle.dumps(function(item))) for item in reversed(copies)]
            return results[::-1]

        batch: deque[Any] = deque()
        for item in items:
            batch.append(item)
            if len(batch) == 3:
                yield from done(batch)
                batch.clear()
        yield from done(batch)


class Counting(BytesSource):
    """A source that counts what is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.fetched = self.reads = 0

    def read(self, start: int, stop: int) -> bytes:
        data = super().read(start, stop)
        self.fetched += len(data)
        self.reads += 1
        return data


def _surface(side: int = 48) -> np.ndarray:
    """A wavy surface, one voxel thick, with rough places: int64 (n, 3)."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    rng = np.random.default_rng(3)
    z = np.rint(20 + 9 * np.sin(x / 9) + 6 * np.cos(y / 7) + (x > 30) * rng.normal(0, 0.7, x.shape))
    points = np.stack([x, y, z.astype(np.int64)], axis=1)
    return np.unique(np.concatenate([points, points + [0, 0, 1]]), axis=0)


def _scattered() -> np.ndarray:
    """A sparse cloud: int64 (n, 3)."""
    return np.unique(np.random.default_rng(4).integers(0, 500, (700, 3)), axis=0)


def _encode(points: np.ndarray, folder: Path, level: int, **options: Any) -> bytes:
    grid, codes, _ = voxelize(points)
    out = io.BytesIO()
    encode_tiles(split(codes, grid, level, folder), out, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def surface() -> np.ndarray:
    return _surface()


@pytest.fixture(scope="module")
def stream(surface: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    config = TileConfig(shared_nodes=100)
    return _encode(surface, tmp_path_factory.mktemp("tiles"), 5, config=config)


@pytest.fixture(scope="module")
def fine(surface: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """All but the two finest layers are shared."""
    return _encode(surface, tmp_path_factory.mktemp("fine"), 5)


@pytest.fixture(scope="module")
def deep(surface: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The shared level is that of the tiles, so four layers are in tiles."""
    config = TileConfig(shared_nodes=20)
    return _encode(surface, tmp_path_factory.mktemp("deep"), 4, config=config)


def _sorted(points: np.ndarray) -> np.ndarray:
    return np.unique(points, axis=0)


def test_tiles_are_lossless_and_ordered(surface: np.ndarray, stream: bytes, fine: bytes, deep: bytes) -> None:
    for data, levels in ((stream, TileLevels(5, 3)), (fine, TileLevels(5, 2)), (deep, TileLevels(4, 4))):
        assert container.parse(data).header.tiles == levels
        assert (_sorted(codec.decode(data)) == surface).all()
        codes = np.concatenate(list(tile_voxels(TileStream(BytesSource(data)))))
        assert (codes[1:] > codes[:-1]).all()


def test_every_prefix_is_the_whole_scene(
    surface: np.ndarray, stream: bytes, fine: bytes, deep: bytes
) -> None:
    for data in (stream, fine, deep):
        parsed = container.parse(data)
        known = next(layer.offset + layer.length for layer in parsed.layers if layer.spec.level == 4)
        places = set(ancestors(voxelize(surface).codes, 4).tolist())
        for size in range(parsed.header_size, len(data), len(data) // 7):
            points = codec.decode(data[:size])
            assert 1 <= len(points) <= 2 * len(surface)
            if size >= known:
                assert set((morton.encode(points) >> np.uint64(12)).tolist()) == places


def test_quality_grows_with_layers(surface: np.ndarray, stream: bytes, fine: bytes, deep: bytes) -> None:
    reference = Reference(surface)
    for data in (stream, fine, deep):
        layers = [layer for layer in container.parse(data).layers if layer.spec.level <= 4]
        ends = [layer.offset + layer.length for layer in layers]
        quality = [reference.compare(codec.decode(data[:end])).d1_psnr for end in ends]
        assert quality == sorted(set(quality)) and quality[-1] == np.inf


def test_a_cut_in_a_tile_layer_gives_some_tiles_one_level_more(surface: np.ndarray, stream: bytes) -> None:
    layer = container.parse(stream).layers[-1]
    before, cut = layer.offset, layer.offset + layer.length // 2
    whole = _by_tile(surface)
    coarse, finer = (_by_tile(codec.decode(stream[:size])) for size in (before, cut))
    exact = [tile for tile in whole if finer[tile] == whole[tile]]
    assert 0 < len(exact) < len(whole)
    assert all(coarse[tile] != whole[tile] for tile in exact)
    # Tiles are in Morton order, and what comes behind the cut layer's bytes is as it was, but at the seam.
    assert exact == sorted(whole)[: len(exact)]


def _by_tile(points: np.ndarray) -> dict[int, frozenset[int]]:
    codes = morton.encode(points)
    tiles = codes >> np.uint64(15)
    return {int(tile): frozenset(codes[tiles == tile].tolist()) for tile in np.unique(tiles)}


def test_sparse_clouds(tmp_path: Path) -> None:
    points = _scattered()
    data = _encode(points, tmp_path, 8)
    assert (_sorted(codec.decode(data)) == points).all()
    parsed = container.parse(data)
    for size in range(parsed.header_size, len(data), len(data) // 5):
        assert 1 <= len(codec.decode(data[:size])) <= 2 * len(points)


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.integers(4, 8), st.integers(1, 120))
def test_any_cloud_is_lossless(seed: int, level: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    points = _sorted(rng.integers(0, 2 ** rng.integers(4, 9, 3), (size, 3)))
    points[-1] = 255  # eight bits an axis
    points = _sorted(points)
    with tempfile.TemporaryDirectory() as folder:
        data = _encode(points, Path(folder), level)
    assert (_sorted(codec.decode(data)) == points).all()
    cut = int(rng.integers(container.parse(data).header_size, len(data) + 1))
    assert len(codec.decode(data[:cut])) >= 1


def test_one_tile_is_a_stream_too(tmp_path: Path) -> None:
    points = np.array([[1, 2, 3], [6, 5, 4]])
    data = _encode(points, tmp_path, 3)
    assert container.parse(data).header.tiles == TileLevels(3, 2)
    for size in range(container.parse(data).header_size, len(data)):
        assert len(codec.decode(data[:size]))
    assert (_sorted(codec.decode(data)) == points).all()


def test_solid_clouds_are_padded_to_the_point_budget(tmp_path: Path) -> None:
    points = np.argwhere(np.ones((72, 72, 72), dtype=bool))
    data = _encode(points, tmp_path, 6)
    assert container.point_budget(sum(x.length for x in container.parse(data).layers)) >= len(points)
    assert (_sorted(codec.decode(data)) == points).all()


def test_workers_change_no_byte(surface: np.ndarray, fine: bytes, deep: bytes, tmp_path: Path) -> None:
    assert _encode(surface, tmp_path, 5, workers=OutOfOrder()) == fine
    for data in (deep, deep[: -len(deep) // 3]):
        alone = np.concatenate(list(decode_parts(BytesSource(data))))
        shared = np.concatenate(list(decode_parts(BytesSource(data), workers=OutOfOrder())))
        assert (alone == shared).all()


def test_the_public_encoder_makes_tiles_of_large_clouds(surface: np.ndarray) -> None:
    data = codec.encode(surface, tile_points=2000)
    tiles = container.parse(data).header.tiles
    assert tiles is not None
    codes = voxelize(surface).codes
    counts = np.unique(codes >> np.uint64(3 * tiles.tile), return_counts=True)[1]
    assert counts.max() <= 250 and len(surface) > 2000
    assert (_sorted(codec.decode(data)) == surface).all()
    assert container.parse(codec.encode(surface)).header.tiles is None
    assert container.parse(codec.encode(surface, tile_points=None)).header.tiles is None
    with pytest.raises(InputError, match="ranks"):
        codec.encode(surface, tile_points=2000, ranks=(1, 0, 0))
    assert container.parse(codec.encode(surface, tile_points=2000, ranks=(0, 0, 0))).header.tiles


def test_float_clouds_keep_their_grid(tmp_path: Path) -> None:
    points = _surface(40) * 0.25 + [4.5e5, 5.2e6, 100.0]
    data = codec.encode(points, voxel_size=0.25, tile_points=1000)
    assert container.parse(data).header.tiles
    assert (_sorted(codec.decode(data)) == _sorted(points)).all()


def test_tile_level_is_the_coarsest_that_fits() -> None:
    codes = voxelize(_surface()).codes
    for most in (10**9, 5000, 700, 1):
        level = tile_level(codes, 6, most)
        sizes = [np.unique(codes >> np.uint64(3 * l), return_counts=True)[1].max() for l in range(7)]
        assert level == max([l for l in range(3, 7) if sizes[l] <= most], default=3)


@pytest.mark.parametrize("level", [2, 1, 0])
def test_a_damaged_tile_falls_back(
    surface: np.ndarray, stream: bytes, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    parsed = TileStream(BytesSource(stream))
    layer = next(layer for layer in parsed._layers if layer.level == level)
    start, stop = layer.bounds[2:4]
    damaged = bytearray(stream)
    for position in range(start, stop):
        damaged[position] ^= 0x5A
    logging.getLogger("pccodec").propagate = True
    with caplog.at_level(logging.WARNING, logger="pccodec"):
        points = codec.decode(bytes(damaged))
    assert f"damaged in layer G{level}" in caplog.text and f"stride {2 << level}" in caplog.text
    assert parsed.tiles is not None
    whole, found = _by_tile(surface), _by_tile(points)
    assert [tile for tile in whole if found[tile] != whole[tile]] == [int(parsed.tiles[2])]
    with pytest.raises(DamagedError, match=f"layer G{level}"):
        codec.decode(bytes(damaged), strict=True)


def test_a_damaged_directory_ends_the_stream(stream: bytes, caplog: pytest.LogCaptureFixture) -> None:
    layer = next(layer for layer in container.parse(stream).layers if layer.spec.level == 1)
    logging.getLogger("pccodec").propagate = True
    for position in range(layer.offset, layer.offset + 8, 3):
        damaged = bytearray(stream)
        damaged[position] ^= 0xA5
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="pccodec"):
            points = codec.decode(bytes(damaged))
        assert "layer G1 (" in caplog.text
        assert len(points) > 0
        with pytest.raises(DamagedError, match="layer G1"):
            codec.decode(bytes(damaged), strict=True)


def test_shared_damage_falls_back(stream: bytes, caplog: pytest.LogCaptureFixture) -> None:
    layer = next(layer for layer in container.parse(stream).layers if layer.spec.level == 3)
    damaged = bytearray(stream)
    damaged[layer.offset + 2] ^= 0xFF
    logging.getLogger("pccodec").propagate = True
    with caplog.at_level(logging.WARNING, logger="pccodec"):
        points = codec.decode(bytes(damaged))
    assert "layer G3" in caplog.text and len(points)
    with pytest.raises(DamagedError):
        codec.decode(bytes(damaged), strict=True)


def test_a_region_is_the_crop_of_the_whole(surface: np.ndarray, deep: bytes) -> None:
    low, high = (10, 17, 0), (29, 33, 30)
    inside = ((surface >= low) & (surface <= high)).all(axis=1)
    for workers in (None, OutOfOrder()):
        region = decode_region(BytesSource(deep), low, high, workers=workers)
        assert (_sorted(region) == surface[inside]).all() and inside.any()
    for layers in range(0, len(container.parse(deep).layers), 2):
        region = decode_region(BytesSource(deep), low, high, layers=layers)
        assert ((region >= low) & (region <= high)).all()


def test_a_region_outside_has_no_points(deep: bytes) -> None:
    region = decode_region(BytesSource(deep), (500, 500, 500), (600, 600, 600))
    assert region.shape == (0, 3) and region.dtype == np.int64
    empty = decode_region(BytesSource(deep), (-1e300, -5, -5), (-1e200, -1, -1))
    assert empty.shape == (0, 3)


def test_boxes_must_be_boxes() -> None:
    for low, high in (((0, 0, 2), (1, 1, 1)), ((0, 0, float("nan")), (1, 1, 1))):
        with pytest.raises(InputError, match="box"):
            Box(low, high)


def test_a_region_reads_its_tiles_only(surface: np.ndarray, deep: bytes) -> None:
    source = Counting(deep)
    decode_region(source, (0, 0, 0), (9, 9, 63))
    layers = container.parse(deep).layers
    tiled = [layer for layer in layers if layer.spec.level < 4]
    assert source.fetched < 4096 + sum(layer.length for layer in tiled) / 2 + 200 * len(tiled)
    assert source.reads <= 3 + 3 * len(tiled)


def test_streams_without_tiles_have_regions(surface: np.ndarray) -> None:
    data = codec.encode(surface)
    region = decode_region(BytesSource(data), (0, 0, 0), (20, 20, 63))
    assert (_sorted(region) == surface[(surface[:, :2] <= 20).all(axis=1)]).all()


def test_the_limits_of_a_prefix_agree(deep: bytes) -> None:
    count = len(container.parse(deep).layers) - 2
    layer = container.parse(deep).layers[count]
    by_bytes = np.concatenate(list(decode_parts(BytesSource(deep), max_bytes=layer.offset)))
    by_layers = np.concatenate(list(decode_parts(BytesSource(deep), layers=count)))
    assert (by_bytes == by_layers).all()
    assert (codec.decode(deep[: layer.offset]) == by_bytes).all()
    with pytest.raises(StreamError, match="do not hold the header"):
        TileStream(BytesSource(deep), max_bytes=20)


def test_pieces_of_a_stream_are_decoded_like_a_prefix(deep: bytes) -> None:
    decoder = codec.Decoder()
    for start in range(0, len(deep), len(deep) // 3 + 1):
        decoder.feed(deep[start : start + len(deep) // 3 + 1])
        size = min(len(deep), start + len(deep) // 3 + 1)
        assert (decoder.points() == codec.decode(deep[:size])).all()
    assert decoder.bytes_needed == 0 and len(decoder.layers) == 6


@given(st.data())
def test_directories_round_trip(data: st.DataObject) -> None:
    tiles, rows = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 4))
    lengths = data.draw(st.lists(st.integers(0, 2**30), min_size=tiles, max_size=tiles))
    checks = data.draw(st.lists(st.integers(0, 255), min_size=tiles, max_size=tiles))
    share = st.lists(st.integers(-31, 224), min_size=tiles, max_size=tiles)
    shares = [tuple(data.draw(share)) for _ in range(rows)]
    directory = Directory(tuple(lengths), tuple(checks), tuple(shares))
    packed = directory.pack()
    length = len(packed) + sum(lengths)
    assert parse_directory(packed + b"tail", tiles, rows, length) == (directory, len(packed))
    assert len(packed) <= max_directory_size(tiles, rows, length)
    for size in range(len(packed)):
        with pytest.raises(StreamError):
            parse_directory(packed[:size], tiles, rows, length)
    with pytest.raises(StreamError, match="damaged"):
        parse_directory(packed, tiles, rows, length + 1)


@given(st.binary(max_size=60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**40))
def test_forged_directories_are_refused_or_fit(noise: bytes, tiles: int, rows: int, length: int) -> None:
    try:
        directory, size = parse_directory(noise, tiles, rows, length)
    except StreamError:
        return
    assert sum(directory.lengths) + size == length
    assert len(directory.lengths) == len(directory.checks) == tiles and len(directory.shares) == rows


@pytest.mark.parametrize(
    "tiles", [TileLevels(5, 1), TileLevels(4, 5), TileLevels(7, 3), TileLevels(0, 0)], ids=str
)
def test_headers_with_impossible_tiles_are_refused(stream: bytes, tiles: TileLevels) -> None:
    with pytest.raises(StreamError, match="tiles of level"):
        replace(container.parse(stream).header, tiles=tiles)


def test_tiles_have_no_ranks(stream: bytes) -> None:
    with pytest.raises(StreamError, match="no ranks"):
        replace(container.parse(stream).header, ranks=(1, 0, 0))


def test_shares_bring_counts_close(surface: np.ndarray, stream: bytes) -> None:
    header = container.parse(stream).header
    tree = Octree.build(voxelize(surface).codes, 6)
    shared = len(tree.codes[3])
    for code in np.unique(tree.codes[5]):
        part = Octree.build(tree.codes[0][tree.codes[0] >> np.uint64(15) == code], 5)
        true = {level: len(codes) for level, codes in enumerate(part.codes)}
        counts = expected_counts(header, shared, true[3], shares_of(header, shared, true))
        assert list(counts) == list(counted_levels(header)) == [2, 1, 0]
        assert all(abs(counts[level] - true[level]) <= 0.08 * true[level] + 1 for level in counts)
    whole = expected_counts(header, shared, shared)
    assert whole == {level: header.counts[level] for level in (2, 1, 0)}


def test_forged_counts_take_no_memory(stream: bytes) -> None:
    """A header that claims more points than its tiles can have: budgets and the sum of the tiles hold."""
    parsed = container.parse(stream)
    most = Header(
        depth=parsed.header.depth,
        counts=(8**6, 8**5, 8**4, 8**3),
        ranks=(0, 0, 0),
        model_id=parsed.header.model_id,
        tiles=parsed.header.tiles,
    )
    checks = {layer.spec.level: layer.check for layer in parsed.layers if layer.check is not None}
    head = container.pack_header(most, [layer.length for layer in parsed.layers], checks)
    assert len(codec.decode(head + stream[parsed.header_size :])) <= 2 * 8**6


def test_a_tiled_cloud_counts_its_points(surface: np.ndarray, tmp_path: Path) -> None:
    grid, codes, _ = voxelize(surface)
    cloud = split(codes, grid, 5, tmp_path)
    assert cloud.points == len(codes) and [tile.code for tile in cloud.tiles] == sorted(
        {int(code) >> 15 for code in codes}
    )
    assert (np.concatenate([tile.codes() for tile in cloud.tiles]) == codes).all()
    with pytest.raises(InputError, match="no points"):
        encode_tiles(TiledCloud(grid, 5, ()), io.BytesIO())
