"""Semantic hashing of clouds: 64-bit codes of which every prefix is a hash.

The same shape in the same size, or in any if sizes are ignored, gets nearly the same bits however it
was sampled, turned about the vertical or captured in part. ``pccodec.training.hashing`` trains the
network with a MaskLayer.
"""

from __future__ import annotations

from pccodec.hashing.index import Index, Match
from pccodec.hashing.network import DEFAULT, HashNetwork, load
from pccodec.hashing.search import BITS

__all__ = ["BITS", "DEFAULT", "HashNetwork", "Index", "Match", "load"]
