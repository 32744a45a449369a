"""The codec: points to stream and back."""

from __future__ import annotations

from pccodec.codec.decoder import Decoder, decode
from pccodec.codec.encoder import encode
from pccodec.codec.region import Box, decode_parts, decode_region

__all__ = ["Box", "Decoder", "decode", "decode_parts", "decode_region", "encode"]
