"""Commands that are stopped, or whose output does not fit: nothing half-written under the final name."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pccodec import codec, io
from tests.range_server import serve

ROOT = Path(__file__).parents[1]

PART = re.compile(r"\.out\.[a-z]+\.[0-9a-f]{12}\.part")

# Runs a command whose output file is written in full, but waits before it gets its name.
WAITING = """
import os, sys, time
from pccodec.cli import main
replace = os.replace
def wait(*names):
    print("ready", flush=True, file=sys.stderr)
    time.sleep(60)
    replace(*names)
os.replace = wait
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cloud of 400 points, and beside it its stream."""
    x, y = np.meshgrid(np.arange(20), np.arange(20), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), (x * y % 7).ravel()], axis=1)
    path = tmp_path_factory.mktemp("cloud") / "cloud.ply"
    io.write(path, points)
    path.with_suffix(".pcc").write_bytes(codec.encode(points))
    return path


def command(name: str, cloud: Path, output: Path) -> list[str]:
    stream = str(cloud.with_suffix(".pcc"))
    return {
        "encode": ["encode", str(cloud), "-o", str(output)],
        "decode": ["decode", stream, "-o", str(output)],
        "decode as npy": ["decode", stream, "-o", str(output), "--format", "npy"],
        "truncate": ["truncate", stream, "-o", str(output), "--layers", "3"],
        "eval": ["eval", str(cloud), "--json", str(output)],
    }[name]


def start(script: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", script, *arguments], cwd=ROOT, stderr=subprocess.PIPE, **options
    )


def stop_before_the_end(number: int, arguments: list[str], times: int = 1) -> tuple[int, str]:
    """Exit code and messages of a command that gets a signal before its output has its name."""
    process = start(WAITING, *arguments, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    said = b""
    while not said.endswith(b"ready\n"):
        line = process.stderr.readline()
        assert line, said
        said += line
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01)
    _, rest = process.communicate(timeout=30)
    return process.returncode, rest.decode()


@pytest.mark.parametrize(
    ("name", "number", "code", "message"),
    [
        ("encode", signal.SIGINT, 130, "interrupted"),
        ("decode", signal.SIGINT, 130, "interrupted"),
        ("truncate", signal.SIGINT, 130, "interrupted"),
        ("eval", signal.SIGINT, 130, "interrupted"),
        ("decode", signal.SIGTERM, 143, "interrupted (SIGTERM)"),
        ("truncate", signal.SIGHUP, 129, "interrupted (SIGHUP)"),
    ],
)
def test_signals_leave_nothing(
    name: str, number: int, code: int, message: str, cloud: Path, tmp_path: Path
) -> None:
    returned, said = stop_before_the_end(number, command(name, cloud, tmp_path / "out.ply"))
    assert (returned, said) == (code, f"pccodec: error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_a_signal_sent_twice_is_one(cloud: Path, tmp_path: Path) -> None:
    returned, said = stop_before_the_end(signal.SIGINT, command("truncate", cloud, tmp_path / "out.pcc"), 3)
    assert (returned, said) == (130, "pccodec: error: interrupted\n") and not list(tmp_path.iterdir())


def test_signals_leave_an_older_file(cloud: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pcc"
    output.write_bytes(b"older")
    assert stop_before_the_end(signal.SIGTERM, command("encode", cloud, output))[0] == 143
    assert [path.name for path in tmp_path.iterdir()] == ["out.pcc"] and output.read_bytes() == b"older"


def test_a_kill_leaves_a_temporary_file_that_can_be_known(cloud: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pcc"
    returned, said = stop_before_the_end(signal.SIGKILL, command("truncate", cloud, output))
    assert returned == -signal.SIGKILL and not said
    (left,) = tmp_path.iterdir()
    assert PART.fullmatch(left.name)


def test_an_interrupt_while_reading(tmp_path: Path) -> None:
    script = "import sys; from pccodec.cli import main; print('ready', flush=True); main(sys.argv[1:])"
    process = start(
        script, "decode", "-", "-o", str(tmp_path / "out.ply"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, b"pccodec: error: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_a_server_is_silent(tmp_path: Path) -> None:
    script = "from pccodec.cli import main; import requests; print('ready', flush=True); main({!r})"
    with serve(b"", stall=60.0) as served:
        arguments = ["decode", served.url, "-o", str(tmp_path / "out.ply")]
        process = start(script.format(arguments), stdout=subprocess.PIPE, env={**os.environ, "NO_PROXY": "*"})
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, b"pccodec: error: interrupted\n")
    assert not list(tmp_path.iterdir())


def limited(size: int) -> Callable[[], None]:
    """Limits files to ``size`` bytes; the shell's own handling of the signal is left to the command."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-m", "pccodec", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize("suffix", ["ply", "npy", "npz", "pcd", "xyz", "csv", "las", "laz"])
def test_outputs_that_are_too_large_for_a_file(suffix: str, cloud: Path, tmp_path: Path) -> None:
    if suffix in ("las", "laz"):
        pytest.importorskip("laspy")
    arguments = command("decode", cloud, tmp_path / f"out.{suffix}")
    result = run(*arguments, preexec_fn=limited(700))
    assert result.returncode == 3, result.stderr
    assert result.stderr.startswith(b"pccodec: error: cannot write") and len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["encode", "truncate"])
def test_streams_that_are_too_large_for_a_file(name: str, cloud: Path, tmp_path: Path) -> None:
    result = run(*command(name, cloud, tmp_path / "out.pcc"), preexec_fn=limited(20))
    assert result.returncode == 3 and not list(tmp_path.iterdir())
    assert re.fullmatch(rb"pccodec: error: cannot write (to )?\S+: File too large( \(.*\))?\n", result.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is full")
@pytest.mark.parametrize("name", ["decode as npy", "truncate", "info"])
def test_a_full_disk(name: str, cloud: Path) -> None:
    arguments = ["info", str(cloud.with_suffix(".pcc"))]
    if name != "info":
        arguments = command(name, cloud, Path("/dev/full"))
        result = run(*arguments)
        assert result.returncode == 3
        assert result.stderr == b"pccodec: error: cannot write /dev/full: No space left on device\n"
        arguments = command(name, cloud, Path("-"))
    with open("/dev/full", "wb") as full:
        result = run(*arguments, stdout=full)
    assert result.returncode == 3
    target = b"the output" if name == "info" else b"standard output"
    assert result.stderr == b"pccodec: error: cannot write " + target + b": No space left on device\n"


@pytest.mark.parametrize("name", ["decode", "truncate", "info"])
def test_a_reader_that_goes_away(name: str, cloud: Path) -> None:
    arguments = ["info", str(cloud.with_suffix(".pcc"))]
    if name != "info":
        arguments = command(name, cloud, Path("-"))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")
