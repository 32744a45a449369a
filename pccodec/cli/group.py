"""A command group that imports its commands late and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from pccodec.cli.interrupts import Stop, silence, stoppable
from pccodec.errors import InputError, PccodecError

# Of files that only pass by, too: standard output, temporary ones.
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is found, and its line in the group's help."""

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the module of ``target`` (``module:attribute``) and return the command."""
        module, attribute = self.target.split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """Group over ``LazyCommand``s; nothing is imported for the group's own help."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self._lazy.get(cmd_name)
        return lazy.load() if lazy else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable():
            return super().invoke(ctx)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "pccodec",
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; in standalone mode exit with the code of the outcome."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            result = super().main(args, prog_name, standalone_mode=False, **extra)
        except (Exception, Stop) as error:
            if _debugging() and not isinstance(error, (click.ClickException, Stop)):
                raise
            code = _report(error)
            silence()
            sys.exit(code)
        # Without standalone mode click returns the code of an early exit, as after --help.
        sys.exit(result if isinstance(result, int) else 0)


def _debugging() -> bool:
    return bool(os.environ.get("PCCODEC_DEBUG")) or logging.getLogger("pccodec").level == logging.DEBUG


def _report(error: BaseException) -> int:
    """Print one line for an error, or none where there is none to tell, and give its exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, Stop):
        if error.message is None:
            return error.exit_code
        message, code = error.message, error.exit_code
    elif isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "pccodec"
        message, code = f"{error.format_message()} (see {path} --help)", error.exit_code
    elif isinstance(error, click.ClickException):
        message, code = error.format_message(), error.exit_code
    elif isinstance(error, PccodecError):
        message, code = str(error), error.exit_code
    elif isinstance(error, OSError) and error.errno in _NO_ROOM:
        message, code = (
            f"cannot write {error.filename or 'the output'}: {error.strerror}",
            InputError.exit_code,
        )
    elif isinstance(error, MemoryError):
        message, code = "not enough memory", 1
    else:
        detail = f"{type(error).__name__}: {error}"
        message, code = f"unexpected {detail} (PCCODEC_DEBUG=1 shows where)", 1
    with suppress(OSError):
        click.echo(f"pccodec: error: {' '.join(message.split())}", err=True)
    return code
