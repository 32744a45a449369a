"""What ``pccodec encode`` does with one cloud, here or in another process."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pccodec import container
from pccodec.cli.truncate import cut_stream, rate_in_bytes
from pccodec.errors import PccodecError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodeOptions:
    """The options of the command but for its files, by their names there."""

    layers: int | None = None
    target_bytes: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None
    voxel_size: float | None = None
    bits: int | None = None
    model: str | None = None
    ranks: tuple[int, int, int] | None = None
    effort: int = 2
    format: str | None = None


class Encoded(NamedTuple):
    """A stream, and a line that says what it is."""

    data: bytes
    summary: str


def encode_cloud(source: str, options: EncodeOptions) -> Encoded:
    """Read a cloud and encode it.

    Raises:
        PccodecError: it cannot be read or encoded.
        click.UsageError: the stream has no such layers, or its header is larger than allowed.
    """
    from pccodec import codec, io

    points = io.read(source, options.format).points
    data = codec.encode(
        points,
        voxel_size=options.voxel_size,
        bits=options.bits,
        model=options.model,
        ranks=options.ranks,
        effort=options.effort,
    )
    whole = len(data)
    target_bytes, reached = options.target_bytes, ""
    if options.target_bpp is not None:
        target_bytes = rate_in_bytes(options.target_bpp, len(points))
    if options.target_psnr is not None:
        target_bytes, reached = _reach(options.target_psnr, data, points)
    if options.layers is not None or target_bytes is not None:
        data = cut_stream(data, max_bytes=target_bytes, layers=options.layers)
    merged = len(points) - container.parse(data).header.counts[0]
    summary = (
        f"{len(points):,} points{f' ({merged:,} duplicates merged)' if merged else ''}, "
        f"{len(data):,} bytes{f' of {whole:,}' if len(data) < whole else ''}, "
        f"{8 * len(data) / len(points):.4f} bits per input point{reached}"
    )
    return Encoded(data, summary)


def try_to_encode(source: str, options: EncodeOptions) -> Encoded | PccodecError:
    """``encode_cloud`` of one of many clouds: what is wrong with it does not stop the others."""
    try:
        return encode_cloud(source, options)
    except PccodecError as error:
        return error


def _reach(target: float, data: bytes, points: np.ndarray) -> tuple[int, str]:
    """Bytes of ``data`` that reach a D1 PSNR in dB, and words that say what they reach."""
    # Rate control measures what the decoder makes of a prefix; like `eval`, only this option loads that.
    from pccodec.evaluation.embedded import Pccodec
    from pccodec.evaluation.rate_control import smallest_prefix

    found = smallest_prefix(data, points, target, Pccodec())
    if found.d1_psnr < target:
        logger.warning("%g dB cannot be reached, not even by the whole stream", target)
    quality = "lossless" if math.isinf(found.d1_psnr) else f"{found.d1_psnr:.2f} dB D1 PSNR"
    return found.size, f", {quality} (found with {found.decodings} decodings)"
