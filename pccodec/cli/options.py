"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pccodec.work import Workers

Command = TypeVar("Command", bound=Callable[..., Any])


def worker_options(command: Command) -> Command:
    """Add ``--jobs`` and ``--scheduler``, which ``workers`` takes."""
    jobs = click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(0),
        default=1,
        show_default=True,
        help="Work in so many processes; 0: one a core. The results are the same.",
    )
    scheduler = click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Give the work to a Dask cluster, as tcp://HOST:8786, that finds files under the same paths.",
    )
    return jobs(scheduler(command))


def workers(jobs: int, scheduler: str | None) -> AbstractContextManager[Workers]:
    """The workers that the options ask for.

    Raises:
        click.UsageError: both options are given.
        DependencyError: Dask is not installed.
        WorkerError: the scheduler cannot be reached, or has no workers that can be used.
    """
    if scheduler is not None and jobs != 1:
        raise click.UsageError("give only one of --jobs and --scheduler")
    from pccodec.work import open_workers

    return open_workers(jobs, scheduler)
