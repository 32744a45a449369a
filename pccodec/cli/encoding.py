"""What ``pccodec encode`` does with one cloud, here or in another process."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pccodec import container
from pccodec.cli.streams import cut_size
from pccodec.cli.truncate import rate_in_bytes
from pccodec.errors import InputError, PccodecError
from pccodec.source import FileSource, Source
from pccodec.work import Serial

if TYPE_CHECKING:
    from pccodec.codec.config import EncodeConfig
    from pccodec.io import ChunkedCloud
    from pccodec.work import Workers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodeOptions:
    """The options of the command but for its files, by their names there.

    Attributes:
        config: those of the encoder.
    """

    config: EncodeConfig
    layers: int | None = None
    target_bytes: int | None = None
    target_bpp: float | None = None
    target_psnr: float | None = None
    format: str | None = None


class Encoded(NamedTuple):
    """A stream of which the first ``size`` bytes are wanted, and a line that says what they are."""

    stream: Source
    size: int
    summary: str


class Sent(NamedTuple):
    """The same with the bytes themselves, as other processes send it."""

    data: bytes
    summary: str


@contextmanager
def encoded_cloud(source: str, options: EncodeOptions, team: Workers) -> Iterator[Encoded]:
    """Read a cloud and encode it into a temporary file, which is gone when the block ends.

    Raises:
        PccodecError: it cannot be read or encoded.
        click.UsageError: the stream has no such layers, or its header is larger than allowed.
    """
    from pccodec import io
    from pccodec.codec.whole import encode_chunks

    with tempfile.TemporaryDirectory(prefix="pccodec-") as folder:
        cloud = io.open_chunks(source, options.format)
        file = Path(folder, "stream")
        with _writing(folder), file.open("wb") as out:
            encode_chunks(cloud, out, Path(folder), team, options.config)
        stream = FileSource(file)
        parsed, reached = container.parse_source(stream), ""
        points, size = cloud.survey.points, parsed.bytes_here
        if options.target_psnr is not None:
            size, reached = _reach(options.target_psnr, file.read_bytes(), cloud)
        target = options.target_bytes
        if options.target_bpp is not None:
            target = rate_in_bytes(options.target_bpp, points)
        if options.layers is not None or target is not None:
            size = min(size, cut_size(parsed, max_bytes=target, layers=options.layers))
        merged = points - parsed.header.counts[0]
        summary = (
            f"{points:,} points{f' ({merged:,} duplicates merged)' if merged else ''}, "
            f"{size:,} bytes{f' of {parsed.bytes_here:,}' if size < parsed.bytes_here else ''}, "
            f"{8 * size / points:.4f} bits per input point{reached}"
        )
        yield Encoded(stream, size, summary)


@contextmanager
def _writing(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error} (TMPDIR moves it)") from error


def try_to_encode(source: str, options: EncodeOptions) -> Sent | PccodecError:
    """``encoded_cloud`` of one of many clouds: what is wrong with it does not stop the others."""
    try:
        with encoded_cloud(source, options, Serial()) as encoded:
            return Sent(encoded.stream.read(0, encoded.size), encoded.summary)
    except PccodecError as error:
        return error


def _reach(target: float, data: bytes, cloud: ChunkedCloud) -> tuple[int, str]:
    """Bytes of ``data`` that reach a D1 PSNR in dB, and words that say what they reach."""
    # Rate control measures what the decoder makes of a prefix; like `eval`, only this option loads that.
    import numpy as np

    from pccodec.evaluation.embedded import Pccodec
    from pccodec.evaluation.rate_control import smallest_prefix

    found = smallest_prefix(data, np.concatenate(list(cloud)), target, Pccodec())
    if found.d1_psnr < target:
        logger.warning("%g dB cannot be reached, not even by the whole stream", target)
    quality = "lossless" if math.isinf(found.d1_psnr) else f"{found.d1_psnr:.2f} dB D1 PSNR"
    return found.size, f", {quality} (found with {found.decodings} decodings)"
