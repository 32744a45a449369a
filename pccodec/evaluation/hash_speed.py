"""CPU time of hashing and search: ``python -m pccodec.evaluation.hash_speed --json FILE``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from pccodec import hashing
from pccodec.evaluation.command import command, publish
from pccodec.hashing.search import nearest

CODES = 10**6
POINTS = (4096, 10**5, 10**6)
REPEATS = 21


def median_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median CPU time of a call in milliseconds, all threads counted."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - begin))
    return round(float(np.median(times)), 3)


def measure(codes: int = CODES, points: tuple[int, ...] = POINTS) -> dict[str, object]:
    """Milliseconds of a search by bits, the ten nearest of random codes, and of a hash by points."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 2**64, codes, dtype=np.uint64)
    query = int(stored[codes // 2]) ^ 0xFF
    certainty = rng.random(64, dtype=np.float32)
    search = {
        str(bits): median_ms(partial(nearest, stored, query, 10, bits, certainty)) for bits in (8, 16, 32, 64)
    }
    network = hashing.load()
    spheres = {count: rng.normal(size=(count, 3)) for count in points}
    hashes = {str(n): median_ms(partial(network.code, cloud), 7) for n, cloud in spheres.items()}
    return {"codes": codes, "search_ms_by_bits": search, "hash_ms_by_points": hashes}


@command
def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--codes", type=int, default=CODES)
    parser.add_argument("--points", type=int, nargs="+", default=POINTS)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    publish(measure(options.codes, tuple(options.points)), options.json)


if __name__ == "__main__":
    sys.exit(main())
