"""Messages on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Formatter(logging.Formatter):
    """Plain text for information, the level's name before warnings and debug messages."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"pccodec: {level}{record.getMessage()}"


class _StandardError(logging.StreamHandler):
    """Writes to what ``sys.stderr`` is at the time of the message."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(verbose: int = 0, quiet: bool = False) -> None:
    """Send the messages of pccodec to standard error.

    Args:
        verbose: 0: warnings, and what the commands say; 1: all information; 2: debug messages too.
        quiet: errors only.
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    _library().setLevel(logging.ERROR if quiet else level)
    logging.getLogger("pccodec.cli").setLevel(logging.ERROR if quiet else min(level, logging.INFO))


def with_messages(function: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """The function, for other processes: they send the messages that this one would."""
    return partial(_call, function, logging.getLogger("pccodec").level)


def _call(function: Callable[[Item], Result], level: int, item: Item) -> Result:
    _library().setLevel(level)
    return function(item)


def _library() -> logging.Logger:
    """The logger of the package, whose messages go to standard error."""
    library = logging.getLogger("pccodec")
    if not any(isinstance(handler, _StandardError) for handler in library.handlers):
        handler = _StandardError()
        handler.setFormatter(_Formatter())
        library.addHandler(handler)
        library.propagate = False
    return library
