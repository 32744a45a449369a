"""Proof that decoding is bit-identical: ``python -m pccodec.evaluation.exactness CLOUD… --json FILE``.

Each cloud is encoded under every setting below, with the default ranks and with all ranks of the
model, and each distinct stream is decoded under every setting: whole, at the end of each layer and
at cuts within layers. The SHA-256 sums of the decoded coordinates must agree. The settings change
what floats depend on: the number of threads, and the instructions that OpenBLAS, numpy and the C
library use. Where OpenBLAS is set, it also takes the place of the products of bytes
(:mod:`pccodec.sparse.products`), so that these are compared with fp32 products of several processors.
Each setting has processes of its own, with its own seed of Python's hashes.

Streams may differ between settings only where ranks were sent: the analysis transform, which
chooses the ranks' symbols, computes in floats. Then all of these streams are decoded everywhere.

``ONEDNN_MAX_CPU_ISA`` and ``ATEN_CPU_CAPABILITY`` are what users of torch would set. The codec
computes in numpy and never imports torch, so these settings are to have no effect, and the report
says whether torch was loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pccodec import __version__, codec, container, io
from pccodec.evaluation.command import command
from pccodec.evaluation.report import source_commit
from pccodec.model import store
from pccodec.model.config import LATENT_LEVELS
from pccodec.sparse.products import ByteMatrix
from pccodec.voxels.grid import voxelize

SAMPLE = Path(__file__).parents[2] / "data" / "human_vox8.ply"

X86_CORES = ("Haswell", "Sandybridge", "Nehalem", "Prescott")
"""Cores that OpenBLAS can be told to compute for: AVX2 with FMA, AVX, SSE4.2, SSE3."""
ARM_CORES = ("ARMV8", "CORTEXA57")

WHOLE = "whole"

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What the caller's own environment says of these is no part of a setting.
_CONTROLLED = (
    *("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "GLIBC_TUNABLES"),
    *("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
)
_FLOATS = "PCCODEC_EXACTNESS_FLOATS"
"""Tells the processes of a setting to take products of bytes in fp32."""
_CHILD = "from pccodec.evaluation.exactness import child; child()"

Sums = dict[str, dict[str, str]]
"""SHA-256 sums in hexadecimal, by stream and cut."""

Made = dict[str, dict[str, str]]
"""Ids of the streams that were made, by cloud and ranks."""


@dataclass(frozen=True)
class Setting:
    """Environment variables beside one thread each for OpenMP, OpenBLAS and MKL."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of a setting.

    Attributes:
        setting: the setting.
        runtime: what its process ran with: OpenBLAS's core, numpy's SIMD extensions, threads, a digest
            of exponentials, whether torch was loaded, and how bytes were multiplied.
        made: the streams that were encoded.
        sums: of everything that was decoded.
        error: the first difference, or why there is no result; None if all agrees.
    """

    setting: Setting
    runtime: dict[str, Any] = field(default_factory=dict)
    made: Made = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)
    error: str | None = None

    def effect(self, first: Outcome) -> dict[str, Any]:
        """What of the runtime differs from the first setting's."""
        return {name: value for name, value in self.runtime.items() if first.runtime.get(name) != value}


def all_settings() -> list[Setting]:
    """The settings of this kind of machine; the first is the one that the others are compared with."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    found = _numpy_build()["SIMD Extensions"].get("found", [])
    return [
        Setting("1 thread"),
        Setting("2 threads", dict.fromkeys(_THREADS, "2")),
        *(
            Setting(f"OpenBLAS {core}", {"OPENBLAS_CORETYPE": core, _FLOATS: "1"})
            for core in (ARM_CORES if arm else X86_CORES)
        ),
        Setting("numpy without SIMD", {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}),
        Setting("libm without FMA", {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4"}),
        Setting("torch: AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}),
        Setting("torch: SSE4.1", {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}),
    ]


def cuts(stream: container.Stream) -> dict[str, int]:
    """Sizes at which a stream is decoded, by name: header, ends of layers, within layers, whole.

    Cuts within layers are at thirds of the geometry layers from the last of the base layer on, and
    in the middle of the first rank of each level.
    """
    sizes = {"header": stream.header_size}
    for layer in stream.layers:
        kind, level, rank = layer.spec.kind, layer.spec.level, layer.spec.rank
        shares: tuple[float, ...] = (1 / 2,) if rank == 1 else ()
        if kind == "G" and level <= LATENT_LEVELS[0]:
            shares = (1 / 3, 2 / 3)
        for part in (round(share * layer.length) for share in shares):
            sizes[f"{layer.spec.name}, {part} of {layer.length} bytes"] = layer.offset + part
        sizes[f"end of {layer.spec.name}"] = layer.end
    sizes[WHOLE] = stream.bytes_here
    return sizes


def checksum(points: np.ndarray) -> str:
    """SHA-256 of coordinates (n, 3) in their order: int64 or float64, little-endian."""
    return hashlib.sha256(points.astype("<i8" if points.dtype.kind == "i" else "<f8").tobytes()).hexdigest()


def first_difference(found: Sums, expected: Sums) -> str | None:
    """One line about the first sum that is missing or not the expected one."""
    for stream, sums in expected.items():
        for cut, wanted in sums.items():
            got = found.get(stream, {}).get(cut, "nothing")
            if got != wanted:
                return f"stream {stream}, {cut}: {got[:12]} instead of {wanted[:12]}"
    return None


def prove(
    clouds: Mapping[str, np.ndarray],
    settings: Sequence[Setting],
    on_step: Callable[[], None] = lambda: None,
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    """Encode and decode clouds under settings and compare.

    Args:
        clouds: points (n, 3) by name.
        settings: the first is the one that the others are compared with.
        on_step: called twice a setting, after encoding and after decoding.

    Returns:
        Outcomes in the order of the settings, and a JSON document of each distinct stream.
    """
    outcomes = [Outcome(setting) for setting in settings]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for cloud, points in clouds.items():
            np.save(folder / f"{cloud}.npy", points)
        for outcome in outcomes:
            outcome.made = _run(outcome, "encode", folder).get("made", {})
            on_step()
        for outcome in outcomes:
            # Why encoding failed is more than that decoding does.
            if outcome.error is None:
                outcome.sums = _run(outcome, "decode", folder).get("sums", {})
            on_step()
        streams = _streams(outcomes, folder)
    _compare(outcomes, streams, clouds)
    return outcomes, streams


def _streams(outcomes: Sequence[Outcome], folder: Path) -> list[dict[str, Any]]:
    streams = []
    for file in sorted(folder.glob("*.pcc")):
        data = file.read_bytes()
        makers = [
            (cloud, option, outcome.setting.name)
            for outcome in outcomes
            for cloud, made in outcome.made.items()
            for option, id in made.items()
            if id == file.stem
        ]
        if not makers:
            continue  # of a process that died later
        streams.append(
            {
                "id": file.stem,
                "cloud": makers[0][0],
                "option": sorted({option for _, option, _ in makers}),
                "made_under": list(dict.fromkeys(name for _, _, name in makers)),
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": len(data),
                "ranks": list(container.parse(data).header.ranks),
                "sums": next((o.sums[file.stem] for o in outcomes if file.stem in o.sums), {}),
            }
        )
    return streams


def _compare(
    outcomes: Sequence[Outcome], streams: Sequence[dict[str, Any]], clouds: Mapping[str, np.ndarray]
) -> None:
    """Set the error of each outcome that has none yet and does not agree."""
    expected: Sums = {stream["id"]: dict(stream["sums"]) for stream in streams}
    for stream in streams:
        # What a whole stream gives back is known without decoding.
        grid, codes, _ = voxelize(clouds[stream["cloud"]])
        expected[stream["id"]][WHOLE] = checksum(grid.points(codes))
    for outcome in outcomes:
        outcome.error = outcome.error or first_difference(outcome.sums, expected)
    without_ranks: dict[str, str] = {}
    for stream in streams:
        if not any(stream["ranks"]):
            other = without_ranks.setdefault(stream["cloud"], stream["id"])
            for outcome in outcomes:
                if other != stream["id"] and outcome.setting.name in stream["made_under"]:
                    outcome.error = (
                        outcome.error or f"streams {other}, {stream['id']} have no ranks and differ"
                    )


def _run(outcome: Outcome, task: str, folder: Path) -> dict[str, Any]:
    """Result of a task in a process under the outcome's setting; takes down errors and the runtime."""
    package = str(Path(__file__).parents[2])
    environment = {name: value for name, value in os.environ.items() if name not in _CONTROLLED}
    environment |= dict.fromkeys(_THREADS, "1")
    environment |= {
        # The order of a set follows from the hashes of its entries.
        "PYTHONHASHSEED": str(zlib.crc32(outcome.setting.name.encode())),
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
        # OpenBLAS then says on the standard error stream which core it computes for.
        "OPENBLAS_VERBOSE": "2",
        **outcome.setting.environment,
    }
    command = [sys.executable, "-c", _CHILD, task, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        outcome.error = f"{task} ended with code {done.returncode}: {reason}"
        return {}
    document: dict[str, Any] = json.loads(done.stdout)
    core = re.search(r"^Core: (\w+)", done.stderr, re.MULTILINE)
    outcome.runtime = {"core": core[1] if core else None, **document["runtime"]}
    return document


def child() -> None:
    """Encode or decode what lies in a folder and print JSON: the task of a process under a setting."""
    task, folder = sys.argv[1], Path(sys.argv[2])
    if os.environ.get(_FLOATS):
        ByteMatrix.times = _times_in_floats  # type: ignore[method-assign, assignment]
    document = {"made": _encode(folder)} if task == "encode" else {"sums": _decode(folder)}
    print(json.dumps({**document, "runtime": _runtime()}))


def _times_in_floats(matrix: ByteMatrix, rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32) @ (matrix.weight.astype(np.float32) * matrix.scale)


def _encode(folder: Path) -> Made:
    config = store.load().config
    k3, k2, k1 = (config.ranks[level] for level in LATENT_LEVELS)
    made: Made = {}
    for file in sorted(folder.glob("*.npy")):
        points, made[file.stem] = np.load(file), {}
        for name, ranks in (("default", None), (f"{k3},{k2},{k1}", (k3, k2, k1))):
            data = codec.encode(points, ranks=ranks)
            id = hashlib.sha256(data).hexdigest()[:12]
            (folder / f"{id}.pcc").write_bytes(data)
            made[file.stem][name] = id
    return made


def _decode(folder: Path) -> Sums:
    sums: Sums = {}
    for file in sorted(folder.glob("*.pcc")):
        data = file.read_bytes()
        sizes = cuts(container.parse(data))
        sums[file.stem] = {cut: checksum(codec.decode(data[:size])) for cut, size in sizes.items()}
    return sums


def _runtime() -> dict[str, Any]:
    # A product large enough for all threads that there are; they stay.
    side = np.ones((1024, 1024), dtype=np.float32)
    side @ side
    tasks = Path("/proc/self/task")
    steps = np.arange(-8192, 8192) / 1024
    exponentials = np.exp(steps).tobytes() + np.array([math.exp(x) for x in steps]).tobytes()
    return {
        "simd": " ".join(_numpy_build()["SIMD Extensions"].get("found", [])) or "baseline",
        "threads": len(list(tasks.iterdir())) if tasks.is_dir() else None,
        "exp": hashlib.sha256(exponentials).hexdigest()[:8],
        "torch": "torch" in sys.modules,
        "products": "fp32" if os.environ.get(_FLOATS) else "bytes",
    }


def _numpy_build() -> dict[str, Any]:
    build: Any = np.show_config(mode="dicts")
    return dict(build)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    return names[1] if names else platform.processor() or platform.machine()


def _print(outcomes: Sequence[Outcome], streams: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table(title="Decoding under each setting", box=box.SIMPLE_HEAD)
    for title in ("setting", "effect", "decoded", "result"):
        table.add_column(title, justify="right" if title == "decoded" else "left", no_wrap=title == "setting")
    first = outcomes[0]
    for outcome in outcomes:
        changed = first.runtime if outcome is first else outcome.effect(first)
        effect = ", ".join(f"{name} {value}" for name, value in changed.items() if value) or "none here"
        count = sum(map(len, outcome.sums.values()))
        table.add_row(outcome.setting.name, effect, str(count), outcome.error or "OK")
    console.print(table)
    for stream in streams:
        console.print(
            f"Stream {stream['id']}: {stream['cloud']}, ranks {' and '.join(stream['option'])}, "
            f"{stream['bytes']} bytes, made under {len(stream['made_under'])} of {len(outcomes)} settings"
        )


@command
def main(arguments: list[str] | None = None) -> int:
    """Decode clouds under many settings and compare the sums; exit code 1 after any difference."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("clouds", nargs="*", type=Path, default=[SAMPLE], help="default: the sample cloud")
    parser.add_argument("--json", type=Path, help="write settings, streams and sums to this file")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    if len({cloud.stem for cloud in options.clouds}) < len(options.clouds):
        parser.error("two clouds have the same name")
    clouds = {cloud.stem: io.read(cloud).points for cloud in options.clouds}
    settings = all_settings()
    with Progress(console=Console(stderr=True)) as progress:
        step = progress.add_task("settings", total=2 * len(settings))
        outcomes, streams = prove(clouds, settings, lambda: progress.advance(step))
    agree = all(outcome.error is None for outcome in outcomes)
    _print(outcomes, streams, Console(highlight=False))
    print("All sums agree." if agree else "The sums do not agree.")
    if options.json:
        blas = _numpy_build()["Build Dependencies"]["blas"]
        document = {
            "version": __version__,
            "commit": source_commit(),
            "agree": agree,
            "seconds": round(time.monotonic() - started),
            "cpu": _cpu(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "blas": f"{blas.get('name')} {blas.get('version')}",
            "settings": [
                {
                    "name": outcome.setting.name,
                    "environment": dict(outcome.setting.environment),
                    "runtime": outcome.runtime,
                    "effect": sorted(outcome.effect(outcomes[0])),
                    "decoded": sum(map(len, outcome.sums.values())),
                    "error": outcome.error,
                }
                for outcome in outcomes
            ],
            "streams": streams,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
