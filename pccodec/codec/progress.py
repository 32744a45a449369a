"""What every decoder of an arriving stream offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from pccodec.container import LayerSpec, Stream


class Progress(ABC):
    """What the layers of a stream told so far, while its bytes arrive.

    Args:
        stream: a parsed beginning of the stream; its header and the places of its layers are used.
        strict: raise on damage instead of staying with what comes before it.

    Attributes:
        header: the stream's header.
    """

    def __init__(self, stream: Stream, strict: bool) -> None:
        self.header, self._stream, self._strict = stream.header, stream, strict

    @property
    def size(self) -> int | None:
        """Bytes of the whole stream, as far as they are known (:attr:`pccodec.container.Stream.size`)."""
        return self._stream.size

    @property
    @abstractmethod
    def decoded(self) -> tuple[LayerSpec, ...]:
        """The layers that are whole and count."""

    @abstractmethod
    def advance(self, data: bytearray) -> None:
        """Take in the layers that are whole in ``data``, all bytes of the stream so far.

        Raises:
            DamagedError: the payload is damaged, if ``strict``.
        """

    @abstractmethod
    def points(self, data: bytearray, last: bool, refresh: bool) -> np.ndarray:
        """What ``data``, all bytes of the stream so far, determine; :meth:`advance` came before.

        Args:
            data: the stream so far.
            last: whether no more bytes will come: then nothing is kept for them.
            refresh: whether what is not known is predicted anew, as far as it was predicted before.

        Raises:
            DamagedError: the payload is damaged, if ``strict``.
        """
