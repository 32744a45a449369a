"""How the commands that measure, train and study end: with one line about what is wrong, and an exit code.

Nothing but the errors is imported here: a command may measure memory, its own included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

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
