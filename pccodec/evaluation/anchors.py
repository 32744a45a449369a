"""Tables of other codecs' rate–distortion points."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pccodec.errors import InputError
from pccodec.evaluation.metrics import LOSSLESS_PSNR

REQUIRED_COLUMNS = ("cloud", "codec", "bpp", "d1_psnr", "d2_psnr")


@dataclass(frozen=True)
class AnchorPoint:
    """One file of another codec.

    Attributes:
        bpp: bits per input point.
        d1_psnr, d2_psnr: decibel; 99.99 for lossless, NaN where the table has none.
        encode_seconds, decode_seconds: NaN where the table has none.
        is_wall_time: these are seconds of the clock rather than of the processor.
        peak_mb: most memory that the codec held, MB; NaN where the table has none.
    """

    bpp: float
    d1_psnr: float
    d2_psnr: float
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan
    is_wall_time: bool = False
    peak_mb: float = math.nan

    @property
    def is_lossless(self) -> bool:
        """No point-to-point error."""
        return self.d1_psnr >= LOSSLESS_PSNR


Anchors = dict[str, dict[str, list[AnchorPoint]]]
"""Points by cloud, then by codec, in the order of the tables."""


def read_anchors(paths: Iterable[Path]) -> Anchors:
    """Anchor points of CSV tables with at least the columns cloud, codec, bpp, d1_psnr and d2_psnr.

    The columns enc_cpu_s and dec_cpu_s, or else enc_s and dec_s (of the clock), and peak_rss_mb
    are read where they are there, further ones ignored. Tables that ``pccodec eval --csv`` wrote
    are anchors too.

    Raises:
        InputError: a table cannot be read, lacks a column or has a cell that is no number.
    """
    anchors: Anchors = {}
    for path in paths:
        try:
            with open(path, newline="", encoding="utf-8") as file:
                _read_table(csv.DictReader(file), anchors)
        except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
            raise InputError(f"anchor table {path}: {error}") from error
    return anchors


def _read_table(rows: csv.DictReader[str], anchors: Anchors) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(f"lacks the column {', '.join(missing)}")
    columns = rows.fieldnames or ()
    is_wall_time = "enc_s" in columns and "enc_cpu_s" not in columns
    encode, decode = ("enc_s", "dec_s") if is_wall_time else ("enc_cpu_s", "dec_cpu_s")
    for row in rows:
        bpp, d1_psnr, d2_psnr, encode_seconds, decode_seconds, peak_mb = (
            _number(row.get(name), rows.line_num)
            for name in (*REQUIRED_COLUMNS[2:], encode, decode, "peak_rss_mb")
        )
        point = AnchorPoint(bpp, d1_psnr, d2_psnr, encode_seconds, decode_seconds, is_wall_time, peak_mb)
        if not 0 < point.bpp < math.inf:
            raise ValueError(f"line {rows.line_num}: a rate must be positive")
        anchors.setdefault(row["cloud"], {}).setdefault(row["codec"], []).append(point)


def _number(text: str | None, line: int) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise ValueError(f"line {line}: {text!r} is no number") from None
