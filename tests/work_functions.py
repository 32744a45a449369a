"""What the tests give workers to do; its own module, so that workers load little."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pccodec.errors import InputError


def square(n: int) -> int:
    return n * n


def refuse(n: int) -> int:
    if n == 3:
        raise InputError(f"{n} cannot be used")
    return n


def report(n: int) -> tuple[int, str | None]:
    time.sleep(0.02 * (n % 3))
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def die_once(folder: Path, n: int) -> int:
    """Kill the worker the first time that 2 and 5 come."""
    mark = folder / f"{n}"
    if n in (2, 5) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n * n


def die_over_two(folder: Path, n: int) -> int:
    if n == 2:
        with open(folder / "deaths", "a") as file:
            file.write(f"{n}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def wait(mark: Path) -> None:
    mark.write_text(f"{os.getpid()}")
    time.sleep(60)
