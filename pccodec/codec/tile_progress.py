"""What a stream of tiles tells so far, while its bytes arrive."""

from __future__ import annotations

import numpy as np

from pccodec.codec.tile_stream import TileStream
from pccodec.codec.tiles import tile_voxels
from pccodec.container import LayerSpec, Stream
from pccodec.source import BytesSource


class TileProgress:
    """As ``incremental.Progress``, but nothing is kept from one decoding to the next.

    A tile is decoded from all of its layers at once, so that only a few are in memory at a time.

    Args:
        stream: a parsed beginning of the stream; its header and the places of its layers are used.
        strict: raise on damage instead of staying with what comes before it.

    Attributes:
        header: the stream's header.
        size: bytes of the whole stream.
        decoded: the layers that arrived whole.
    """

    def __init__(self, stream: Stream, strict: bool) -> None:
        self.header, self.size = stream.header, stream.size
        self.decoded: tuple[LayerSpec, ...] = ()
        self._layers, self._strict = stream.layers, strict

    def advance(self, data: bytearray) -> None:
        """Count the layers that are whole in ``data``, all bytes of the stream so far."""
        self.decoded = tuple(layer.spec for layer in self._layers if layer.offset + layer.length <= len(data))

    def points(self, data: bytearray, last: bool) -> np.ndarray:
        """What ``data``, all bytes of the stream so far, determine.

        Args:
            data: the stream so far.
            last: makes no difference.

        Raises:
            DamagedError: the payload is damaged, if ``strict``.
        """
        stream = TileStream(BytesSource(bytes(data)), strict=self._strict)
        return stream.grid.points(np.concatenate(list(tile_voxels(stream))))
