"""A stream of tiles while its bytes arrive: its tiles are decoded when points are asked for."""

from __future__ import annotations

import numpy as np

from pccodec.codec.tile_stream import TileStream
from pccodec.codec.tiles import tile_voxels
from pccodec.container import LayerSpec, Stream
from pccodec.source import BytesSource


class TiledProgress:
    """What of a stream of tiles arrived.

    Nothing is decoded before points are asked for: the tiles of a large cloud do not fit into
    memory together, as what is known of them would have to be kept.

    Args:
        stream: a parsed beginning of the stream; its header and the places of its layers are used.
        strict: raise on damage instead of staying with what comes before it.

    Attributes:
        header: the stream's header.
        size: bytes of the whole stream.
    """

    def __init__(self, stream: Stream, strict: bool) -> None:
        self.header, self.size = stream.header, stream.size
        self._layers, self._strict = stream.layers, strict
        self._arrived = 0

    @property
    def decoded(self) -> tuple[LayerSpec, ...]:
        """The layers that arrived whole."""
        ends = [(layer.spec, layer.offset + layer.length) for layer in self._layers]
        return tuple(spec for spec, end in ends if end <= self._arrived)

    def advance(self, data: bytearray) -> None:
        """Take note of the bytes of the stream so far."""
        self._arrived = len(data)

    def points(self, data: bytearray, last: bool) -> np.ndarray:
        """What ``data``, all bytes of the stream so far, determine, whether or not they are the ``last``.

        Raises:
            ModelError: the model that the stream needs is missing.
            DamagedError: the payload is damaged, if ``strict``.
        """
        tiles = TileStream(BytesSource(bytes(data)), strict=self._strict)
        return tiles.grid.points(np.concatenate(list(tile_voxels(tiles))))
