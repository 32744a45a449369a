"""pccodec itself as the codec to measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pccodec import codec
from pccodec.codec.config import EncodeConfig
from pccodec.container import parse
from pccodec.evaluation.curves import Layout


@dataclass(frozen=True)
class Pccodec:
    """The codec with fixed options; an ``EmbeddedCodec``.

    Attributes:
        voxel_size: edge of a voxel in units of the input, None for the codec's choice.
        bits: bits an axis, instead of a voxel size.
        model: name or path of a model, None for the shipped one.
        effort: 1…3, how much the encoder tries.
    """

    voxel_size: float | None = None
    bits: int | None = None
    model: str | None = None
    effort: int = EncodeConfig.effort

    def encode(self, points: np.ndarray) -> bytes:
        """One stream that holds every quality of points (n, 3)."""
        return codec.encode(
            points, voxel_size=self.voxel_size, bits=self.bits, model=self.model, effort=self.effort
        )

    def decode(self, data: bytes, max_bytes: int) -> np.ndarray:
        """Points (m, 3) decoded from the first ``max_bytes`` of a stream, as if no more had arrived."""
        return codec.decode(data[:max_bytes])

    def layout(self, data: bytes) -> Layout:
        """Layers and grid of a whole stream."""
        stream = parse(data)
        return Layout(
            names=tuple(layer.spec.name for layer in stream.layers),
            ends=tuple(layer.end for layer in stream.layers),
            depth=stream.header.depth,
            voxel_size=stream.header.scale,
            model_id=stream.header.model_id.hex(),
        )
