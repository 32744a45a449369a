"""Damage above the levels that have checks, and places that a header forges."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from pccodec import codec, container, io
from pccodec.codec.tile_encoder import TileConfig, encode_tiles
from pccodec.codec.tile_stream import TileStream
from pccodec.container.layout import CHECKED_LEVEL
from pccodec.errors import DamagedError
from pccodec.source import BytesSource
from pccodec.source.base import FileSource
from pccodec.voxels.grid import voxelize
from pccodec.voxels.tiles import split

SAMPLE = Path(__file__).parents[1] / "data" / "human_vox8.ply"


def test_damage_above_the_coarsest_check_leaves_no_wrong_level() -> None:
    data = codec.encode(io.read(SAMPLE).points)
    layers = container.parse(data).layers
    unchecked = [layer for layer in layers if layer.spec.level > CHECKED_LEVEL and layer.length > 1]
    found = 0
    for layer in unchecked:
        for bit in range(8):
            damaged = bytearray(data)
            damaged[layer.offset] ^= 1 << bit
            decoder = codec.Decoder()
            decoder.feed(bytes(damaged))
            decoded = [spec.level for spec in decoder.layers]
            if len(decoded) == len(layers):
                continue  # one in 256 escapes an eight-bit check
            found += 1
            # Nothing that stands on unchecked nodes is said to be intact.
            assert not decoded or decoded[-1] <= CHECKED_LEVEL
            assert len(decoder.points())
    assert found


def test_a_forged_length_of_the_base_layer_is_no_error_of_reading(tmp_path: Path) -> None:
    data = codec.encode(io.read(SAMPLE).points)
    stream = container.parse(data)
    lengths = [16 * stream.header.max_nodes(spec.level + 1) + 64 for spec in stream.header.layers]
    checks = {layer.spec.level: layer.check for layer in stream.layers if layer.check is not None}
    file = tmp_path / "forged.pcc"
    file.write_bytes(container.pack_header(stream.header, lengths, checks) + data[stream.header_size :])
    forged = container.parse_source(FileSource(file))
    assert forged.size is None and forged.damage is None and not forged.complete


@pytest.fixture(scope="module", params=[(0.03, 3), (0.3, 2)])
def tiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Streams that share the base layer, and one layer more."""
    share, shared = request.param
    grid, codes, _ = voxelize(io.read(SAMPLE).points)
    out = BytesIO()
    cloud = split(codes, grid, 5, tmp_path_factory.mktemp("tiles"))
    encode_tiles(cloud, out, config=TileConfig(shared_share=share))
    tiles = container.parse(out.getvalue()).header.tiles
    assert tiles and tiles.shared == shared
    return out.getvalue()


def _table(data: bytes) -> range:
    stream = container.parse(data)
    assert stream.header.tiles
    return range(
        stream.layers[stream.header.announced - 1].end, stream.layers[stream.header.announced].offset
    )


def test_a_damaged_table_of_tiles_leaves_the_shared_layers(tiled: bytes) -> None:
    shared = codec.decode(tiled[: _table(tiled)[0]])
    for place in _table(tiled):
        damaged = bytearray(tiled)
        damaged[place] ^= 0x10
        np.testing.assert_array_equal(codec.decode(bytes(damaged)), shared)
        with pytest.raises(DamagedError, match="table behind the base layer"):
            codec.decode(bytes(damaged), strict=True)


def test_cuts_at_the_table_of_tiles_decode_as_pieces_do(tiled: bytes) -> None:
    decoder = codec.Decoder()
    fed = 0
    for size in (_table(tiled)[0] - 1, *_table(tiled), _table(tiled)[-1] + 1, len(tiled)):
        decoder.feed(tiled[fed:size])
        fed = size
        np.testing.assert_array_equal(decoder.points(), codec.decode(tiled[:size]))
        known = size > _table(tiled)[-1]
        assert decoder.bytes_needed == (len(tiled) - size if known else None)


def test_damage_in_coarse_shared_layers_leaves_no_wrong_level(tiled: bytes) -> None:
    whole = container.parse(tiled)
    layer = next(layer for layer in whole.layers if layer.length > 1)
    assert layer.spec.level > whole.header.coarsest_checked
    damaged = bytearray(tiled)
    damaged[layer.offset] ^= 0x55
    stream = TileStream(BytesSource(bytes(damaged)))
    assert stream.tiles is None or not stream._is_exact
    with pytest.raises(DamagedError):
        codec.decode(bytes(damaged), strict=True)
