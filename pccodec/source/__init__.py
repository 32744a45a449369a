"""Where the bytes of a stream come from: memory, files, and what serves byte ranges."""

from pccodec.source.base import BytesSource, FileSource, Source

__all__ = ["BytesSource", "FileSource", "Source"]
