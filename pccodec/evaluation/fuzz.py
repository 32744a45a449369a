"""Fuzzing: each mutated stream decodes or ends with one ``PccodecError``, in bounded time and memory.

``python -m pccodec.evaluation.fuzz --count 10000`` prints a JSON report. The decoding runs
in a process of its own, so that a crash is a finding and not the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from pccodec import __version__, codec, container
from pccodec.errors import PccodecError, StreamError
from pccodec.evaluation.command import command
from pccodec.evaluation.report import source_commit

MEMORY_LIMIT = 1 << 30
"""Bytes that decoding may add to the process's address space."""

TIME_LIMIT = 20.0
"""CPU seconds after which a decoding counts as hanging."""

_BATCH = 50


@dataclass
class Report:
    """What became of the mutated streams.

    Attributes:
        outcomes: how often each outcome came: ``decoded`` or the name of the error.
        by_mutation: how often each kind of mutation was drawn.
        findings: defects: seed of the mutation and what happened.
        slowest: CPU seconds of the slowest decoding.
        peak_memory: most resident memory of the decoding process, in bytes.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    by_mutation: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak_memory: int = 0

    def merge(self, other: Report) -> None:
        """Add the results of another run."""
        self.outcomes += other.outcomes
        self.by_mutation += other.by_mutation
        self.findings += other.findings
        self.slowest = max(self.slowest, other.slowest)
        self.peak_memory = max(self.peak_memory, other.peak_memory)


def sample_clouds() -> list[np.ndarray]:
    """Small clouds of different kinds: a rough shell, a plane, sparse floats, a few points."""
    source = np.random.default_rng(2)
    ball = source.normal(size=(3000, 3))
    ball /= np.linalg.norm(ball, axis=1)[:, None]
    plane = np.stack([*np.meshgrid(np.arange(40), np.arange(40), indexing="ij"), np.full((40, 40), 7)], -1)
    return [
        np.rint(16 + 14 * ball + source.normal(0, 0.3, ball.shape)).astype(np.int64),
        plane.reshape(-1, 3),
        source.uniform(-40, 40, (150, 3)).round(2) + [431_000, 4_580_000, 120],
        np.array([[5, 6, 7], [5, 6, 8], [900, 0, 3]]),
    ]


def sample_streams() -> list[bytes]:
    """Streams of the sample clouds, and one of the first in tiles."""
    clouds = sample_clouds()
    return [codec.encode(points) for points in clouds] + [codec.encode(clouds[0], tile_points=1600)]


def mutate(streams: Sequence[bytes], seed: int) -> tuple[str, bytes]:
    """A kind of mutation and one stream mutated by it; the same for the same seed."""
    source = np.random.default_rng([seed, 0x9CC])
    kinds = (flip, cut, splice, overwrite, insert, noise, forge)
    mutation = kinds[source.integers(len(kinds))]
    return mutation.__name__, mutation(streams, source)


def flip(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    data = bytearray(_any(streams, source))
    for position in source.integers(8 * len(data), size=source.integers(1, 9)):
        data[position >> 3] ^= 1 << (position & 7)
    return bytes(data)


def cut(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """Keep the first bytes only."""
    data = _any(streams, source)
    return data[: source.integers(len(data) + 1)]


def splice(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """The start of one stream and the end of another, or of itself."""
    first, second = _any(streams, source), _any(streams, source)
    return first[: source.integers(len(first) + 1)] + second[source.integers(len(second) + 1) :]


def overwrite(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """Overwrite a run of bytes with noise, zeros or ones."""
    data = bytearray(_any(streams, source))
    start = int(source.integers(len(data)))
    size = min(len(data) - start, int(source.integers(1, 200)))
    data[start : start + size] = (source.bytes(size), bytes(size), b"\xff" * size)[source.integers(3)]
    return bytes(data)


def insert(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """Insert or append noise."""
    data = _any(streams, source)
    start = source.integers(len(data) + 1)
    return data[:start] + source.bytes(int(source.integers(1, 100))) + data[start:]


def noise(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """Noise, half of the time behind a true magic, version and model id."""
    data = source.bytes(int(source.integers(300)))
    return _any(streams, source)[:11] + data if source.integers(2) else data


def forge(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    """A header with false claims and a true checksum, before the old payload."""
    data = _any(streams, source)
    stream = container.parse(data)
    for _ in range(100):
        try:
            header = replace(stream.header, **_claims(stream.header, source))
        except StreamError:
            continue
        lengths = [layer.length for layer in stream.layers][: len(header.layers)]
        lengths += [0] * (len(header.layers) - len(lengths))
        checks = dict.fromkeys(header.checked, 0)
        checks |= {layer.spec.level: layer.check for layer in stream.layers if layer.check is not None}
        if source.integers(2):
            most = [header.max_length(spec) for spec in header.layers]
            lengths = [int(length * source.uniform()) if source.integers(2) else length for length in most]
        base = sum(lengths[: header.announced]) if source.integers(2) else _base_size(stream)
        behind = stream.header_size + base
        front = container.pack_header(header, lengths, checks) + data[stream.header_size : behind]
        return front + container.pack_table(header, lengths, checks) + data[_table_end(stream) :]
    return data


def _base_size(stream: container.Stream) -> int:
    return sum(layer.length for layer in stream.layers[: stream.header.announced])


def _table_end(stream: container.Stream) -> int:
    """Where the first layer behind the table begins."""
    behind = stream.layers[stream.header.announced :]
    return behind[0].offset if behind else stream.header_size


def _claims(header: container.Header, source: np.random.Generator) -> dict[str, Any]:
    """Some fields of a header with other values; not all go together."""
    depth = header.depth
    if source.integers(4) == 0:
        depth = int(source.integers(1, 22))
    counts = list(header.counts) + [1] * 4
    counts = counts[: min(4, depth)]
    if source.integers(2):
        # Growth from the coarsest count down, often to the most that the format allows.
        above = int(min(8 ** (depth - len(counts) + 1), 2.0 ** source.uniform(0, 40)))
        for level in range(len(counts) - 1, -1, -1):
            counts[level] = above
            above = int(above * source.choice([1, 2, 4, 8]))
    ranks = tuple(int(source.integers(16)) if level < depth else 0 for level in (3, 2, 1))
    claims: dict[str, Any] = {"depth": depth, "counts": tuple(counts)}
    claims["ranks"] = ranks if source.integers(2) else header.ranks
    if source.integers(4) == 0:
        claims |= {"origin": (0.0, -1e300, 1e300), "scale": 1e300, "is_integer": False}
    return claims


def _any(streams: Sequence[bytes], source: np.random.Generator) -> bytes:
    return streams[int(source.integers(len(streams)))]


def try_streams(streams: Sequence[bytes], seeds: Sequence[int]) -> Report:
    """Decode one mutated stream a seed in this process."""
    report = Report()
    for seed in seeds:
        kind, data = mutate(streams, seed)
        report.by_mutation[kind] += 1
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
        try:
            points = codec.decode(data)
            report.outcomes["decoded"] += 1
            if not (len(points) and np.isfinite(points).all()):
                report.findings.append(f"seed {seed} ({kind}): no points, or not finite")
        except PccodecError as error:
            report.outcomes[type(error).__name__] += 1
            if len(str(error).splitlines()) != 1:
                report.findings.append(f"seed {seed} ({kind}): the message is not one line: {error!r}")
        except Exception as error:
            report.outcomes["defect"] += 1
            report.findings.append(f"seed {seed} ({kind}): {error!r}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        report.slowest = max(report.slowest, time.process_time() - started)
    report.peak_memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return report


def fuzz(
    streams: Sequence[bytes],
    count: int,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Decode ``count`` mutated streams in a process with limits on memory and time.

    Args:
        streams: whole streams to mutate.
        count: how many.
        seed: seed of the first mutation; the others count up from it.
        on_progress: called now and then with the number of streams done since the last call.
    """
    report = Report()
    pool: ProcessPoolExecutor | None = None
    for start in range(seed, seed + count, _BATCH):
        pool = pool or ProcessPoolExecutor(1, get_context("spawn"), _prepare, (streams[0],))
        seeds = range(start, min(start + _BATCH, seed + count))
        try:
            report.merge(pool.submit(try_streams, streams, seeds).result())
        except BrokenProcessPool:
            report.findings.append(f"the process died between seeds {seeds[0]} and {seeds[-1]}")
            pool.shutdown()
            pool = None
        if on_progress:
            on_progress(len(seeds))
    if pool:
        pool.shutdown()
    return report


def _prepare(stream: bytes) -> None:
    """Load everything, then let the address space grow by ``MEMORY_LIMIT`` only."""
    logging.getLogger("pccodec").setLevel(logging.ERROR)  # damage is expected here
    codec.decode(stream)
    # A whole stream does not need the networks, a cut one loads them.
    codec.decode(container.truncate(stream, layers=1))
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_LIMIT, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, _raise_timeout)


def _raise_timeout(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"no result after {TIME_LIMIT:.0f} CPU seconds")


@command
def main(arguments: list[str] | None = None) -> int:
    """Fuzz the decoder and print a report as JSON; exit code 1 after any finding."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="mutated streams")
    parser.add_argument("--seed", type=int, default=0, help="first seed; each stream takes one")
    options = parser.parse_args(arguments)
    streams = sample_streams()
    started = time.monotonic()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("mutated streams", total=options.count)
        report = fuzz(streams, options.count, options.seed, lambda done: progress.advance(task, done))
    document = {
        "version": __version__,
        "commit": source_commit(),
        "count": options.count,
        "seed": options.seed,
        "stream_bytes": [len(stream) for stream in streams],
        "outcomes": dict(report.outcomes),
        "mutations": dict(report.by_mutation),
        "findings": report.findings,
        "slowest_cpu_seconds": round(report.slowest, 3),
        "peak_memory_mb": round(report.peak_memory / 1e6),
        "memory_limit_mb": round(MEMORY_LIMIT / 1e6),
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(document, indent=1))
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
