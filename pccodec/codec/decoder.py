"""Decoder: a stream, whole, cut anywhere behind its header, or arriving in pieces, to points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pccodec import container
from pccodec.codec.incremental import LayerProgress
from pccodec.codec.progress import Progress
from pccodec.codec.tile_progress import TileProgress
from pccodec.container import Header, LayerSpec
from pccodec.errors import CutHeaderError

if TYPE_CHECKING:
    from typing_extensions import Buffer


def decode(
    data: bytes, *, layers: int | None = None, max_bytes: int | None = None, strict: bool = False
) -> np.ndarray:
    """Decode what a stream, or any prefix of it that holds its header, determines.

    Args:
        data: the stream.
        layers: use only the first so many layers.
        max_bytes: use only the first so many bytes.
        strict: raise on damage instead of decoding up to the last intact level.

    Returns:
        Points (m, 3): int64 for clouds of integer coordinates, else float64.

    Raises:
        StreamError: not a stream, or its header is damaged or missing.
        ModelError: the model that the stream needs is missing.
        DamagedError: the payload is damaged and ``strict`` is set.
    """
    if layers is not None:
        data = container.truncate(data, layers=layers)
    if max_bytes is not None:
        data = container.truncate(data, max_bytes=max_bytes)
    decoder = Decoder(strict=strict)
    decoder.feed(data)
    return decoder._points(last=True)


class Decoder:
    """Decodes a stream that arrives in pieces of any size; more bytes upgrade what is there.

    After any pieces :meth:`points` gives exactly what :func:`decode` gives for all bytes so far,
    bit by bit. Whole layers are decoded once, a layer that is cut goes on where it ended, and what
    the synthesis transform found at the finest exact level and the geometry network at the last
    milestone is kept. A stream of tiles is decoded anew.

    Example::

        decoder = pccodec.Decoder()
        for chunk in chunks:
            decoder.feed(chunk)
            if decoder.header:
                show(decoder.points())

    Args:
        strict: raise on damage instead of giving what comes before it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._data = bytearray()
        self._progress: Progress | None = None

    @property
    def header(self) -> Header | None:
        """The stream's header; None until all of it is there."""
        return self._progress.header if self._progress else None

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The layers that are decoded whole, in order; where there is damage, the intact ones before it."""
        return self._progress.decoded if self._progress else ()

    @property
    def bytes_needed(self) -> int | None:
        """Bytes still to come until the stream is whole.

        None while that is not known: the header announces the base layer, a table behind it the rest.
        """
        size = self._progress.size if self._progress else None
        return None if size is None else max(0, size - len(self._data))

    def feed(self, chunk: Buffer) -> None:
        """Take in the next bytes of the stream and decode the layers that they complete.

        Args:
            chunk: any number of bytes. Those behind the stream's declared end are ignored.

        Raises:
            StreamError: not a stream, or its header is damaged.
            ModelError: the model that the stream needs is missing.
            DamagedError: the payload is damaged and ``strict`` is set.
        """
        self._data += chunk
        if self._progress is None:
            try:
                stream = container.parse(self._data)
            except CutHeaderError:
                if len(self._data) < container.MAX_HEADER:
                    return
                raise
            progress = TileProgress if stream.header.tiles else LayerProgress
            self._progress = progress(stream, self._strict)
        self._progress.advance(self._data)

    def points(self, *, refresh: bool = True) -> np.ndarray:
        """What the bytes so far determine.

        Args:
            refresh: False is for pictures while bytes arrive: what is not known stays as it was
                predicted at the last call with True, or the first call, and is only corrected by
                what became known since. That takes a fraction of the time and gives a little less.
                Once the stream is whole, and of streams of tiles, the points are the same.

        Returns:
            Points (m, 3): int64 for clouds of integer coordinates, else float64.

        Raises:
            CutHeaderError: the header is not complete; more bytes are needed.
            DamagedError: the payload is damaged and ``strict`` is set.
        """
        return self._points(last=False, refresh=refresh)

    def _points(self, last: bool, refresh: bool = True) -> np.ndarray:
        if self._progress is None:
            raise CutHeaderError("the stream's header is not complete: more bytes are needed")
        return self._progress.points(self._data, last, refresh)
