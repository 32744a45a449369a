"""The codec: points to stream and back."""

from __future__ import annotations

from pccodec.codec.decoder import Decoder, decode
from pccodec.codec.encoder import encode

__all__ = ["Decoder", "decode", "encode"]
