"""Point-cloud geometry compression: one embedded stream, cut anywhere, lossless at the end."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pccodec.errors import PccodecError

if TYPE_CHECKING:
    from pccodec.codec import Decoder, decode, encode
    from pccodec.container import parse as info
    from pccodec.io import PointCloud

__version__ = "0.1.0"
__all__ = ["Decoder", "PccodecError", "PointCloud", "__version__", "decode", "encode", "info"]

# Loaded at first use, so that importing the package needs neither numpy nor torch.
_LAZY = {
    "Decoder": ("pccodec.codec", "Decoder"),
    "PointCloud": ("pccodec.io", "PointCloud"),
    "decode": ("pccodec.codec", "decode"),
    "encode": ("pccodec.codec", "encode"),
    "info": ("pccodec.container", "parse"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
