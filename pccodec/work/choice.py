"""Which workers there are, by the options of a command."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from pccodec.work.base import Serial, Workers


def open_workers(jobs: int = 1, scheduler: str | None = None) -> AbstractContextManager[Workers]:
    """Workers, and an end of them where the block ends.

    Args:
        jobs: processes of this machine: 1 works in this process, 0 takes as many as there are cores.
        scheduler: address of a Dask scheduler, whose workers are taken instead.

    Raises:
        DependencyError: dask.distributed is not installed.
        WorkerError: the scheduler cannot be reached, or has no workers that can be used.
    """
    # Loaded when needed: most commands work alone.
    if scheduler is not None:
        from pccodec.work.dask import DaskWorkers

        return DaskWorkers(scheduler)
    jobs = jobs or available_cores()
    if jobs == 1:
        return nullcontext(Serial())
    from pccodec.work.processes import Processes

    return Processes(jobs)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
