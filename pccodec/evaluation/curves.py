"""Rate–distortion points of ONE embedded stream per cloud, cut at many places.

The cloud is encoded once; every point of the curve is the decoding of a prefix of that one
stream, and its rate counts all bytes of the prefix, header included, per input point.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pccodec.evaluation.metrics import Reference, peak_of_depth, peak_value


@dataclass(frozen=True)
class Layout:
    """What a stream's header says about it.

    Attributes:
        names: names of the layers, in stream order.
        ends: bytes from the start of the stream to the end of each layer.
        depth: bits per axis of the voxel grid.
        voxel_size: edge of a voxel in the unit of the points.
        model_id: identifies the model that the stream needs; empty if it needs none.
    """

    names: tuple[str, ...]
    ends: tuple[int, ...]
    depth: int
    voxel_size: float = 1.0
    model_id: str = ""


class EmbeddedCodec(Protocol):
    """What a codec must offer to be measured."""

    def encode(self, points: np.ndarray) -> bytes:
        """One stream that holds every quality of points (n, 3)."""

    def decode(self, data: bytes, max_bytes: int) -> np.ndarray:
        """Points (m, 3) decoded from the first ``max_bytes`` of a stream."""

    def layout(self, data: bytes) -> Layout:
        """Layers and grid of a whole stream."""


@dataclass(frozen=True)
class Cut:
    """A place to cut a stream.

    Attributes:
        size: bytes kept.
        layers: whole layers among them.
        name: the last layer of which bytes are kept.
    """

    size: int
    layers: int
    name: str


@dataclass(frozen=True)
class RdPoint:
    """One decoded prefix.

    Attributes:
        layer: the last layer of which bytes were decoded.
        layers: whole layers decoded.
        is_layer_end: the cut lies exactly behind ``layer``.
        size: bytes of the prefix.
        bpp: bits of the prefix per input point.
        d1_mse, d2_mse: symmetric errors in squared units of the points.
        d1_psnr, d2_psnr: decibel; infinite without error.
        decode_seconds: CPU seconds of decoding the prefix, all threads.
        points_out: decoded points.
    """

    layer: str
    layers: int
    is_layer_end: bool
    size: int
    bpp: float
    d1_mse: float
    d2_mse: float
    d1_psnr: float
    d2_psnr: float
    decode_seconds: float
    points_out: int


@dataclass(frozen=True)
class RdCurve:
    """All measured prefixes of the one stream of a cloud, by size.

    Attributes:
        cloud: name of the cloud.
        points_in: input points, duplicates counted.
        peak: peak value of the PSNRs.
        model_id: identifies the codec's model.
        encode_seconds: CPU seconds of encoding, all threads.
        cuts: the measured prefixes; the last is the whole stream.
    """

    cloud: str
    points_in: int
    peak: float
    model_id: str
    encode_seconds: float
    cuts: tuple[RdPoint, ...]

    @property
    def layer_ends(self) -> tuple[RdPoint, ...]:
        """The cuts behind whole layers: the curve that enters BD-rates."""
        return tuple(cut for cut in self.cuts if cut.is_layer_end)

    @property
    def is_lossless(self) -> bool:
        """The whole stream gives the input's distinct points back."""
        return self.cuts[-1].d1_mse == 0

    @property
    def largest_drop(self) -> float:
        """Most dB of D1 that a longer prefix loses to any shorter one; 0 if quality never falls."""
        quality = np.array([cut.d1_psnr for cut in self.cuts])
        best = np.maximum.accumulate(quality)
        falling = quality < best
        return float((best[falling] - quality[falling]).max(initial=0.0))


def plan_cuts(layout: Layout, inner: int = 0) -> list[Cut]:
    """The end of every layer and ``inner`` more cuts, evenly spaced in log(bytes) over the payload.

    Layers without bytes share their end with the layer before; such an end is one cut, named
    after the last of them.
    """
    sizes = set(layout.ends)
    if inner:
        sizes |= set(np.geomspace(layout.ends[0], layout.ends[-1], inner + 2)[1:-1].astype(int).tolist())
    ends = np.array(layout.ends)
    cuts = []
    for size in sorted(sizes):
        whole = int(np.searchsorted(ends, size, side="right"))
        last = whole - 1 if whole and ends[whole - 1] == size else whole
        cuts.append(Cut(size, whole, layout.names[last]))
    return cuts


def measure_curve(
    cloud: str,
    points: np.ndarray,
    codec: EmbeddedCodec,
    inner_cuts: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> RdCurve:
    """Encode a cloud once, decode it at every layer end and ``inner_cuts`` other places, measure.

    Args:
        cloud: name of the cloud, for tables.
        points: (n, 3), n ≥ 1.
        codec: the codec.
        inner_cuts: cuts besides the layer ends.
        on_progress: called after each cut with the number of cuts done and of all cuts.

    Returns:
        The curve. Errors are against the input points, so those of a float cloud include what
        voxelization loses.

    Raises:
        PccodecError: the cloud cannot be encoded.
    """
    start = time.process_time()
    data = codec.encode(points)
    encode_seconds = time.process_time() - start
    layout = codec.layout(data)
    reference = Reference(points, peak=peak_of_cloud(points, layout))
    cuts = plan_cuts(layout, inner_cuts)
    measured = []
    for done, cut in enumerate(cuts, start=1):
        start = time.process_time()
        decoded = codec.decode(data, cut.size)
        decode_seconds = time.process_time() - start
        distortion = reference.compare(decoded)
        measured.append(
            RdPoint(
                layer=cut.name,
                layers=cut.layers,
                is_layer_end=cut.size in layout.ends,
                size=cut.size,
                bpp=8 * cut.size / len(points),
                d1_mse=distortion.d1_mse,
                d2_mse=distortion.d2_mse,
                d1_psnr=distortion.d1_psnr,
                d2_psnr=distortion.d2_psnr,
                decode_seconds=decode_seconds,
                points_out=len(decoded),
            )
        )
        if on_progress:
            on_progress(done, len(cuts))
    return RdCurve(cloud, len(points), reference.peak, layout.model_id, encode_seconds, tuple(measured))


def peak_of_cloud(points: np.ndarray, layout: Layout) -> float:
    """Peak of the PSNRs, in the unit of the points (n, 3).

    Integer clouds have the peak of their own bit depth, others that of the codec's voxel grid.
    """
    if (points == np.rint(points)).all():
        return peak_value(points)
    return peak_of_depth(layout.depth) * layout.voxel_size
