"""What decoding in pieces costs: ``python -m pccodec.evaluation.incremental --cloud CLOUD --json FILE``.

The cloud's stream is fed to a decoder in equal pieces, and the points are asked for after each. The
CPU time of that over the CPU time of one decoding of the whole stream is the cost of seeing it grow:
once with all that is missing predicted anew each time, and once without (``refresh=False``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from time import process_time
from typing import Any

from pccodec import codec, container, io
from pccodec.evaluation.command import command
from pccodec.evaluation.report import source_commit


def piece_times(data: bytes, pieces: int, refresh: bool) -> list[float]:
    """CPU seconds of each of so many equal pieces: to feed it, and to ask for the points.

    The header must be whole with the first piece.
    """
    decoder = codec.Decoder()
    ends = [len(data) * (index + 1) // pieces for index in range(pieces)]
    times = []
    for begin, end in zip([0, *ends], ends, strict=False):
        start = process_time()
        decoder.feed(data[begin:end])
        decoder.points(refresh=refresh)
        times.append(process_time() - start)
    return times


def measure(data: bytes, pieces: int, repeats: int) -> dict[str, Any]:
    """Times of whole decodings and of decodings in pieces in turn, and the medians of their ratios."""
    codec.decode(data[: container.parse(data).header_size])  # loads the model
    whole: list[float] = []
    times: dict[bool, list[list[float]]] = {True: [], False: []}
    for _ in range(repeats):
        start = process_time()
        codec.decode(data)
        whole.append(process_time() - start)
        for refresh, runs in times.items():
            runs.append(piece_times(data, pieces, refresh))
    ratio = {
        refresh: statistics.median(sum(run) / alone for run, alone in zip(runs, whole, strict=True))
        for refresh, runs in times.items()
    }
    return {
        "bytes": len(data),
        "pieces": pieces,
        "ratio": round(ratio[True], 2),
        "ratio_without_refresh": round(ratio[False], 2),
        "whole_cpu_seconds": [round(time, 3) for time in whole],
        "piece_cpu_seconds": _rounded(times[True]),
        "piece_cpu_seconds_without_refresh": _rounded(times[False]),
    }


def _rounded(runs: list[list[float]]) -> list[list[float]]:
    return [[round(time, 3) for time in run] for run in runs]


@command
def main(arguments: list[str] | None = None) -> None:
    """Print the ratio and write all times as JSON."""
    parser = argparse.ArgumentParser(description="The cost of decoding in pieces.")
    parser.add_argument("--cloud", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    data = codec.encode(io.read(options.cloud).points)
    found = {"cloud": options.cloud.stem, **measure(data, options.pieces, options.repeats)}
    ratios = f"{found['ratio']} times one decoding, {found['ratio_without_refresh']} without refreshing"
    print(f"{found['cloud']}: {options.pieces} pieces cost {ratios}")
    options.json.write_text(json.dumps({"commit": source_commit(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
