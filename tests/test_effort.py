"""What the encoder tries: milestones in the base layer, and the surplus of voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pccodec
from pccodec import container, io
from pccodec.codec.distortion import d1_error
from pccodec.errors import InputError
from pccodec.voxels import morton

SAMPLE = Path(__file__).parent.parent / "data" / "human_vox8.ply"


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.unique(io.read(SAMPLE).points // 2, axis=0)


def quality(points: np.ndarray, data: bytes, size: int) -> float:
    decoded = pccodec.decode(data, max_bytes=size)
    return d1_error(*(np.sort(morton.encode(cloud.astype(np.int64))) for cloud in (points, decoded)))


def base_layer(data: bytes) -> tuple[int, int]:
    stream = container.parse(data)
    end = next(layer.offset + layer.length for layer in stream.layers if layer.spec.level == 3)
    return stream.header_size, end


def test_quality_never_falls_in_the_base_layer(points: np.ndarray) -> None:
    data = pccodec.encode(points, effort=2)
    begin, end = base_layer(data)
    errors = [quality(points, data, size) for size in range(begin, end + 1, 2)]
    assert len(set(errors)) > 3
    # Milestones are tried at stride 8; what is reconstructed below may differ by a little.
    best = np.minimum.accumulate(errors)
    assert (10 * np.log10(np.array(errors) / best)).max() <= 0.05


def test_without_milestones_only_whole_layers_count(points: np.ndarray) -> None:
    data = pccodec.encode(points, effort=1)
    stream = container.parse(data)
    assert stream.header.milestones == (0, 0, 0)
    for layer in stream.layers:
        if layer.spec.level >= 3 and layer.length > 1:
            one, other = (
                pccodec.decode(data, max_bytes=layer.offset + size) for size in (0, layer.length - 1)
            )
            assert np.array_equal(one, other)


def test_the_surplus_lowers_the_error_at_stride_8(points: np.ndarray) -> None:
    plain, tried = (pccodec.encode(points, effort=effort) for effort in (2, 3))
    surplus = container.parse(tried).header.surplus
    assert container.parse(plain).header.surplus == 0
    ends = [base_layer(data)[1] for data in (plain, tried)]
    errors = [quality(points, data, end) for data, end in zip((plain, tried), ends, strict=True)]
    assert errors[1] < errors[0] if surplus else errors[1] == errors[0]
    assert np.array_equal(pccodec.decode(plain), pccodec.decode(tried))


def test_the_surplus_adds_points_while_stride_8_is_the_finest_known(points: np.ndarray) -> None:
    stream = container.parse(data := pccodec.encode(points))
    header = stream.header
    payloads = [layer.data for layer in stream.layers]
    checks = {layer.spec.level: layer.check for layer in stream.layers if layer.check is not None}
    more = container.pack(replace(header, surplus=8), payloads, checks)
    count = header.counts[0]
    assert len(pccodec.decode(more, max_bytes=base_layer(more)[1])) == count + count * 8 // 32
    assert len(pccodec.decode(data, max_bytes=base_layer(data)[1])) == count
    finer = next(layer for layer in stream.layers if layer.spec.level == 2)
    end = finer.end + len(more) - len(data)
    assert len(pccodec.decode(more, max_bytes=end)) == count


def test_unknown_effort() -> None:
    with pytest.raises(InputError, match="effort 4"):
        pccodec.encode([[0, 0, 0]], effort=4)
