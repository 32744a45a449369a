"""CPU time and memory of the commands: ``python -m pccodec.evaluation.resources CLOUD… --json FILE``.

Each run is a process of its own with one thread, as a user would start it. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pccodec import container
from pccodec.errors import InputError
from pccodec.evaluation.command import command

_THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}

_BYTES = 1 if sys.platform == "darwin" else 1024
"""Unit of the kernel's peak of resident memory."""


def measure_command(*arguments: str) -> dict[str, float]:
    """CPU seconds (user and system) and peak of resident memory in MB (10^6 bytes) of one command.

    The kernel counts the memory of the process that starts another one in: keep that one small.

    Raises:
        InputError: the command fails.
    """
    command = [sys.executable, "-m", "pccodec", "--quiet", *arguments]
    process = subprocess.Popen(command, env={**os.environ, **_THREADS})
    _, status, usage = os.wait4(process.pid, 0)
    # The process is reaped; without its exit code, Popen would wait for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"pccodec {arguments[0]} failed with exit code {process.returncode}")
    return {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss * _BYTES / 1e6, 1),
    }


def measure_cloud(cloud: Path) -> dict[str, object]:
    """Encoding, decoding of the whole stream, and decoding of its layers down to stride 8 (``decode_base``).

    Raises:
        InputError: a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        stream, decoded = f"{folder}/cloud.pcc", f"{folder}/decoded.ply"
        encode = measure_command("encode", str(cloud), "-o", stream)
        layers = container.parse(Path(stream).read_bytes()).layers
        base = sum(layer.spec.kind == "G" and layer.spec.level >= 3 for layer in layers)
        return {
            "cloud": cloud.stem,
            "encode": encode,
            "decode": measure_command("decode", stream, "-o", decoded),
            "decode_base": measure_command("decode", stream, "-o", decoded, "--layers", str(base)),
        }


@command
def main(arguments: list[str] | None = None) -> None:
    """Measure the clouds one after another and write JSON."""
    parser = argparse.ArgumentParser(description="CPU time and memory of encoding and decoding.")
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    rows = [measure_cloud(cloud) for cloud in options.clouds]
    # Loaded last, since its libraries would count as memory of the commands.
    from pccodec.evaluation.report import source_commit

    options.json.write_text(json.dumps({"commit": source_commit(), "clouds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
