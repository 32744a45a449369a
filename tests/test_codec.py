"""The whole codec with the shipped model: lossless, cut anywhere, damaged, at the limits of its input."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pccodec import codec, container, io
from pccodec.errors import DamagedError, InputError, ModelError, StreamError
from pccodec.evaluation.metrics import Reference

GOLDEN_STREAM = "e64a1652cbe533d2485a40dc98bd27f6b6c80d2c2a3da4d4a3c6c6465a757225"
GOLDEN_TILES = "ff378e53045990e97bc524c578d5722c0babc37d28d358a73e2341e7a8dad54c"
GOLDEN_VOXELS = "8bddaf5bd69bee3069bac0c2dc2663c2e98b6f073a2fe8ce63655980c4dc0977"
GOLDEN_CUTS = {
    39: "59914ac53aa1e80d5ef1a65712721da9f0726d116d3ff7719e94edc1021b1349",
    67: "6f6b3faa7358d1986c0f95868cd08a6562a809972bc17a6dabb9b2326a72a35e",
    137: "a421cfc13f558de3f82d846f886aeea8fafb93aaa9968a598251bb058960e415",
    437: "b88076cdb51577a0694c91575fca7cd14359654fec7a3c33e91f1ac2aca3b888",
    1237: "543e3359b31ea413807fe96fbabffb98b340021972079fe6473e0fc01f42b6fa",
}
"""SHA-256 of the points, int64, decoded from so many bytes of a stream without ranks."""
GOLDEN_SPARSE_CUTS = {
    48: "d269ff4a72b81a51d7fcc12a1edee4907fd0f3454c6f5c2d8e17489d8ffd22bb",
    279: "376f668f495556a59fe64be178cf6c454e0177ef9a9ec8bab2c7e8fd467e840d",
    197: "deacadd5e17fc5afd548480d142c3010d0dba398ed71546b0172c436d015b322",
    1766: "d9022a394613c4df175ef269e8e965bf5598d0205430b85f4d419257df983b69",
}
"""The same of every sixth point, which make a sparse cloud."""

SAMPLE = Path(__file__).parents[1] / "data" / "human_vox8.ply"


def _shell(radius: float = 11.3, bits: int = 5) -> np.ndarray:
    """Voxels of a hollow sphere: a small dense surface."""
    side = np.arange(1 << bits) - 15.5
    distance = np.sqrt(side[:, None, None] ** 2 + side[:, None] ** 2 + side**2)
    return np.argwhere(np.abs(distance - radius) < 0.6)


def _sorted(points: np.ndarray) -> np.ndarray:
    return np.unique(points, axis=0)


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return io.read(SAMPLE).points


@pytest.fixture(scope="module")
def stream(sample: np.ndarray) -> bytes:
    return codec.encode(sample, ranks=(2, 1, 1))


@settings(max_examples=25, deadline=None)
@given(npst.arrays(np.int64, st.tuples(st.integers(1, 80), st.just(3)), elements=st.integers(-40, 300)))
def test_any_small_integer_cloud_is_lossless(points: np.ndarray) -> None:
    assert (_sorted(codec.decode(codec.encode(points))) == _sorted(points)).all()


@pytest.mark.parametrize("ranks", [None, (0, 0, 0), (2, 1, 1)])
def test_a_real_cloud_is_lossless_with_and_without_ranks(
    sample: np.ndarray, ranks: tuple[int, int, int] | None
) -> None:
    decoded = codec.decode(codec.encode(sample, ranks=ranks))
    assert decoded.dtype == np.int64
    assert (_sorted(decoded) == _sorted(sample)).all()


@pytest.mark.parametrize("size", GOLDEN_CUTS)
def test_voxels_of_cut_streams_are_golden(sample: np.ndarray, size: int) -> None:
    points = codec.decode(codec.encode(sample, ranks=(0, 0, 0)), max_bytes=size)
    assert hashlib.sha256(points.astype("<i8").tobytes()).hexdigest() == GOLDEN_CUTS[size]


@pytest.mark.parametrize("size", GOLDEN_SPARSE_CUTS)
def test_voxels_of_cut_streams_of_sparse_clouds_are_golden(sample: np.ndarray, size: int) -> None:
    points = codec.decode(codec.encode(sample[::6]), max_bytes=size)
    assert hashlib.sha256(points.astype("<i8").tobytes()).hexdigest() == GOLDEN_SPARSE_CUTS[size]


def test_a_stream_without_ranks_is_golden(sample: np.ndarray) -> None:
    """Integers alone make it: its bytes are the same everywhere. (Ranks are chosen by floats.)"""
    assert hashlib.sha256(codec.encode(sample, ranks=(0, 0, 0))).hexdigest() == GOLDEN_STREAM


def test_a_stream_of_tiles_is_golden(sample: np.ndarray) -> None:
    assert hashlib.sha256(codec.encode(sample, tile_points=20_000)).hexdigest() == GOLDEN_TILES


def test_lossless_voxels_are_golden(stream: bytes) -> None:
    voxels = _sorted(codec.decode(stream)).astype("<i4").tobytes()
    assert hashlib.sha256(voxels).hexdigest() == GOLDEN_VOXELS


def test_every_prefix_of_a_small_stream_decodes_and_the_header_is_needed() -> None:
    points = _shell()
    data = codec.encode(points, ranks=(2, 1, 1))
    head = container.parse(data).header_size
    for size in range(head, len(data)):
        # In G_0 known bits override what was chosen before without a count.
        assert 1 <= len(codec.decode(data[:size])) <= 1.01 * len(points)
    assert len(codec.decode(data)) == len(points)
    with pytest.raises(StreamError):
        codec.decode(data[: head - 1])


def test_quality_grows_with_layers(sample: np.ndarray, stream: bytes) -> None:
    reference = Reference(sample)
    layers = container.parse(stream).layers
    ends = [i + 1 for i, layer in enumerate(layers) if layer.spec.kind == "G" and layer.spec.level < 4]
    quality = [reference.compare(codec.decode(stream, layers=count)).d1_psnr for count in ends]
    assert quality == sorted(quality)
    assert quality[0] > 55 and quality[-1] == np.inf


def test_cuts_inside_a_layer_lie_between_its_ends(sample: np.ndarray, stream: bytes) -> None:
    reference = Reference(sample)
    layer = next(layer for layer in container.parse(stream).layers if layer.spec.name == "G1")
    sizes = np.linspace(layer.offset, layer.offset + layer.length, 5).astype(int)
    quality = [reference.compare(codec.decode(stream[:size])).d1_psnr for size in sizes]
    assert (np.diff(quality) > -0.05).all()
    assert quality[-1] > quality[0] + 1


def test_layers_and_max_bytes_are_prefixes(stream: bytes) -> None:
    layer = container.parse(stream).layers[5]
    by_bytes = codec.decode(stream, max_bytes=layer.offset)
    assert (codec.decode(stream, layers=5) == by_bytes).all()
    assert (codec.decode(stream[: layer.offset]) == by_bytes).all()


@pytest.mark.parametrize("name", ["G2", "G1", "G0", "R3.1"])
def test_damage_falls_back_to_the_last_intact_level(
    stream: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    layers = container.parse(stream).layers
    layer = next(layer for layer in layers if layer.spec.name == name)
    damaged = bytearray(stream)
    for position in range(layer.offset, layer.offset + layer.length):
        damaged[position] ^= 0x5A
    logging.getLogger("pccodec").propagate = True
    with caplog.at_level(logging.WARNING, logger="pccodec"):
        points = codec.decode(bytes(damaged))
    assert "damaged" in caplog.text
    intact = layer.spec.level + (1 if layer.spec.kind == "G" else 0)
    before = max(i for i, other in enumerate(layers) if other.spec.name == f"G{intact}")
    assert (points == codec.decode(stream, layers=before + 1)).all()
    with pytest.raises(DamagedError, match="damaged in layer"):
        codec.decode(bytes(damaged), strict=True)


def test_float_clouds_come_back_within_half_a_voxel() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3)) * [30, 20, 5] + [4.5e5, 5.2e6, 120]
    decoded = codec.decode(codec.encode(points, voxel_size=0.25))
    distance = np.abs(points[:, None] - decoded[None]).max(axis=2).min(axis=1)
    assert distance.max() <= 0.125 + 1e-6


@pytest.mark.parametrize(
    "points",
    [
        np.array([[5, 7, 9]]),
        np.array([[-3, 0, 2_000_000]]),
        np.argwhere(np.ones((12, 12, 1))),
        np.array([[0, 0, 0], [2**21 - 1, 0, 2**21 - 1]]),
        np.repeat([[1, 2, 3]], 50, axis=0),
    ],
    ids=["point", "far point", "plane", "21 bits", "duplicates"],
)
def test_degenerate_clouds(points: np.ndarray) -> None:
    data = codec.encode(points)
    assert (_sorted(codec.decode(data)) == _sorted(points)).all()
    head = container.parse(data).header_size
    assert len(codec.decode(data[:head])) >= 1


def test_unusable_points_and_options_are_refused() -> None:
    with pytest.raises(InputError):
        codec.encode(np.zeros((0, 3)))
    with pytest.raises(InputError):
        codec.encode(np.array([[0.0, np.nan, 1.0]]))
    with pytest.raises(InputError, match="no more than"):
        codec.encode(_shell(), ranks=(50, 0, 0))
    with pytest.raises(ModelError, match="no model"):
        codec.encode(_shell(), model="missing")


def test_a_stream_of_another_model_is_refused(stream: bytes) -> None:
    parsed = container.parse(stream)
    other = replace(parsed.header, model_id=bytes(8))
    checks = {layer.spec.level: layer.check for layer in parsed.layers if layer.check is not None}
    with pytest.raises(ModelError, match="needs the model 0000000000000000"):
        codec.decode(container.pack(other, [layer.data for layer in parsed.layers], checks))
