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

GOLDEN_STREAM = "9dfc1d0ba446317f4e7a421af55c82c52178e9ca8c28248bd191c7516d77928c"
GOLDEN_VOXELS = "8bddaf5bd69bee3069bac0c2dc2663c2e98b6f073a2fe8ce63655980c4dc0977"
GOLDEN_CUTS = {
    39: "1566a1dc16c77b8ef6a07a178c69d2620f7e74384a4ad5b5b5a64249a25f7360",
    67: "cfb0d5d27077b4bdbaf316b11ef680ada513ff1adbf4d735a8fe25063e91ffa9",
    137: "e63b3bc1374d5875556ff663334c72a832c33addabf430f1bd5f97ab63bf3eca",
    437: "505a17511bf3e7dac6850304b74a4658bc73001ec5bfb9b1a4d62e5756886349",
    1237: "59ec45a87ffcb2c8222ad9362ffed4986a4c37a26922fd4d71e11f0d4e0a2664",
}
"""SHA-256 of the points, int64, decoded from so many bytes of a stream without ranks."""
GOLDEN_SPARSE_CUTS = {
    48: "bb7b4f23d4b68d3c372e78b674548966dd8b5684f056f51c3ab521745d759b69",
    279: "7137cd1b7a0cd953b5e8ff045dcab872570c304cda0aad7cfd0986e37ad1c45b",
    197: "0707a95188771eeacd4798cbe67fae357dc628be770a60a99df392f6f5cc3512",
    1766: "d07311e35f5c484e16448775a4195cb5b4467b36ad97fa9bcffef61112fbb929",
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


def test_lossless_voxels_are_golden(stream: bytes) -> None:
    voxels = _sorted(codec.decode(stream)).astype("<i4").tobytes()
    assert hashlib.sha256(voxels).hexdigest() == GOLDEN_VOXELS


def test_every_prefix_of_a_small_stream_decodes_and_the_header_is_needed() -> None:
    points = _shell()
    data = codec.encode(points, ranks=(2, 1, 1))
    head = container.parse(data).header_size
    for size in range(head, len(data)):
        assert 1 <= len(codec.decode(data[:size])) <= len(points)
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
