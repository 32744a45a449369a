"""Tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def show(console: Console, *parts: RenderableType) -> None:
    """Print tables; errors of standard output are raised, where rich would end the program."""
    with console.capture() as text:
        for part in parts:
            console.print(part)
    click.echo(text.get(), nl=False)
