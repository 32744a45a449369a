"""What stops a command from outside: signals, and readers that go away."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

_ECHO = 1.0
"""Seconds in which a further signal is taken for the same: programs that start others often send two."""

BROKEN_PIPE = 141
"""Exit code when nobody reads standard output any more, as of shells: 128 + SIGPIPE."""


class Interrupt(KeyboardInterrupt):
    """A signal asks the command to stop. What cleans up after Ctrl-C cleans up after all of them."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Stop(BaseException):
    """A command was stopped.

    Attributes:
        exit_code: as of shells, 128 and the number of the signal.
        message: what to say; nothing where nobody listens.
    """

    def __init__(self, exit_code: int, message: str | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn signals in the block into ``Stop``, after everything in it has cleaned up.

    Signals that are ignored stay so. Outside the main thread, which alone can, no handlers are set.
    After ``Stop`` further signals are ignored: the process is about to end.
    """
    before = _install() if threading.current_thread() is threading.main_thread() else {}
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupt) else int(signal.SIGINT)
        if isinstance(error, Interrupt):
            before = dict.fromkeys(before, signal.SIG_IGN)
        how = "" if number == signal.SIGINT else f" ({signal.Signals(number).name})"
        raise Stop(128 + number, f"interrupted{how}") from error
    except BrokenPipeError as error:
        silence()
        raise Stop(BROKEN_PIPE, None) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def silence() -> None:
    """Drop what standard output cannot take, which would fail again when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            output = sys.stdout.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


def _install() -> dict[int, Any]:
    last = -_ECHO

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _ECHO:
            last = now
            raise Interrupt(number)

    before: dict[int, Any] = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, interrupt)
    return before
