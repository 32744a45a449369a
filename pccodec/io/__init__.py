"""Point clouds from and to files: PLY, PCD, NPY/NPZ, text and LAS/LAZ."""

from __future__ import annotations

from pccodec.io.append import CloudWriter, open_writer
from pccodec.io.atomic import atomic_write
from pccodec.io.chunks import open_chunks
from pccodec.io.cloud import ChunkedCloud, PointCloud
from pccodec.io.files import read, write
from pccodec.io.formats import format_names, format_of_suffix
from pccodec.io.spec import CloudSpec

__all__ = [
    "ChunkedCloud",
    "CloudSpec",
    "CloudWriter",
    "PointCloud",
    "atomic_write",
    "format_names",
    "format_of_suffix",
    "open_chunks",
    "open_writer",
    "read",
    "write",
]
