"""Point clouds from and to files: PLY, PCD, NPY/NPZ, text and LAS/LAZ."""

from __future__ import annotations

from pccodec.io.atomic import atomic_write
from pccodec.io.cloud import PointCloud
from pccodec.io.files import format_names, read, write

__all__ = ["PointCloud", "atomic_write", "format_names", "read", "write"]
