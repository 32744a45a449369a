"""What a stream of tiles tells so far, while its bytes arrive."""

from __future__ import annotations

import numpy as np

from pccodec import container
from pccodec.codec.progress import Progress
from pccodec.codec.tile_stream import TileStream
from pccodec.codec.tiles import tile_voxels
from pccodec.container import LayerSpec, Stream
from pccodec.source import BytesSource


class TileProgress(Progress):
    """Of a stream of tiles: nothing but which layers arrived is kept from one decoding to the next.

    A tile is decoded from all of its layers at once, so that only a few are in memory at a time.
    """

    def __init__(self, stream: Stream, strict: bool) -> None:
        super().__init__(stream, strict)
        self._arrived: tuple[LayerSpec, ...] = ()

    @property
    def decoded(self) -> tuple[LayerSpec, ...]:
        return self._arrived

    def advance(self, data: bytearray) -> None:
        if self.size is None:
            self._stream = container.parse(data)
        self._arrived = tuple(layer.spec for layer in self._stream.layers if layer.end <= len(data))

    def points(self, data: bytearray, last: bool, refresh: bool) -> np.ndarray:
        stream = TileStream(BytesSource(bytes(data)), strict=self._strict)
        return stream.grid.points(np.concatenate(list(tile_voxels(stream))))
