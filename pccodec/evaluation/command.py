"""How the commands that measure, train and study end: with one line about what is wrong, and an exit code.

Nothing but the errors is imported here: a command may measure memory, its own included.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from pccodec.errors import PccodecError

Arguments = ParamSpec("Arguments")


def command(main: Callable[Arguments, int | None]) -> Callable[Arguments, int]:
    """Let a ``main`` return an exit code: its own, 0 for None, or that of the PccodecError that it raises.

    The error's message goes to standard error. Other exceptions are defects and pass, with their traceback.
    """

    @wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        try:
            return main(*args, **kwargs) or 0
        except PccodecError as error:
            print(f"pccodec: error: {error}", file=sys.stderr)
            return error.exit_code

    return run


def publish(document: dict[str, Any], file: Path | None) -> None:
    """Print a document as JSON, and write it to a file if there is one."""
    from pccodec.io import atomic_write

    text = json.dumps(document, indent=1) + "\n"
    print(text, end="")
    if file:
        with atomic_write(file) as out:
            out.write(text.encode())
