"""The benchmark of large clouds, on a small one."""

from __future__ import annotations

import numpy as np

from pccodec import codec
from pccodec.evaluation.large import shares_of_boxes
from pccodec.source import BytesSource


def test_boxes_take_their_tiles_wherever_they_lie() -> None:
    x, y = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    points = np.stack([x, y, (x * y) % 7], axis=-1).reshape(-1, 3)
    source = BytesSource(codec.encode(points, tile_points=9600, effort=1))
    shares = shares_of_boxes(source, points.min(axis=0), points.max(axis=0), seed=1)
    # Four by four tiles, a little wider than the box: it mostly touches two or four of them.
    assert 1 / 16 < shares.min() < 3 / 16 and 4 / 16 < shares.max() < 5 / 16
    assert len(np.unique(shares)) > 10
