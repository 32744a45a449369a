"""Where the bytes of a stream come from: memory, files, and what serves byte ranges."""

from pccodec.source.base import BytesSource, FileSource, PrefixSource, Source
from pccodec.source.config import TransferConfig
from pccodec.source.opening import open_source
from pccodec.source.remote import RemoteSource

__all__ = [
    "BytesSource",
    "FileSource",
    "PrefixSource",
    "RemoteSource",
    "Source",
    "TransferConfig",
    "open_source",
]
