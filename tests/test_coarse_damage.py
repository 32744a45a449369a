"""Damage above the levels that have checks, and places that a header forges."""

from __future__ import annotations

from pathlib import Path

from pccodec import codec, container, io
from pccodec.container.layout import CHECKED_LEVEL
from pccodec.source.base import FileSource

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
