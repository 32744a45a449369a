"""Work spread over the cores of this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic

from pccodec.errors import WorkerError
from pccodec.work.base import Item, Result

_AHEAD = 2
"""Items a worker that may be taken ahead of the results."""

_DEATHS = 3
"""Workers that may die over an item before it is given up."""

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(eq=False)
class _Task(Generic[Item]):
    item: Item
    future: Future[Any]
    deaths: int = 0


class Processes:
    """Workers that are processes of this machine; a context manager that ends them.

    They are spawned, since forking a process that runs threads may hang: scripts need the usual
    ``if __name__ == "__main__"``. Each computes with one thread. A worker that dies (killed, out
    of memory) costs time only: what was not finished is done again, and an item over which three
    workers have died is a ``WorkerError``. Leaving the block by an exception, as by Ctrl-C, ends
    them at once; if this process is killed, they end themselves.
    """

    def __init__(self, jobs: int) -> None:
        """Plan for ``jobs`` processes, which start as there is work for them."""
        if jobs < 1:
            raise ValueError("there must be at least one process")
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._lifeline: Connection | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; at most two items a worker are taken ahead of them.

        Raises:
            WorkerError: three workers died over the same item.
            Exception: whatever ``function`` or ``items`` raise, as it is.
        """
        source = iter(items)
        window: deque[_Task[Item]] = deque()
        while True:
            while len(window) < _AHEAD * self._jobs:
                try:
                    item = next(source)
                except StopIteration:
                    break
                window.append(_Task(item, self._submit(function, item)))
            if not window:
                return
            try:
                result = window[0].future.result()
            except BrokenProcessPool:
                self._recover(function, window)
                continue
            window.popleft()
            yield result

    def _submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        if self._pool is None:
            self._start()
        assert self._pool is not None
        # Workers are spawned when there is work for them.
        with _spawning():
            try:
                return self._pool.submit(function, item)
            except BrokenProcessPool as error:
                broken: Future[Result] = Future()
                broken.set_exception(error)
                return broken

    def _recover(self, function: Callable[[Item], Result], window: deque[_Task[Item]]) -> None:
        """Start anew and do again what is not finished.

        Which worker died over which item is not known: all that were running are suspects. An item
        that was one twice is tried alone, which shows whether it is to blame.
        """
        self._end(at_once=True)
        unfinished = [task for task in window if _is_broken(task.future)]
        # Items are begun in their order, so the first ones were running.
        for task in unfinished[: self._jobs]:
            task.deaths += 1
        for task in unfinished:
            while task.deaths >= _DEATHS - 1:
                if task.deaths >= _DEATHS:
                    raise WorkerError(
                        f"{_DEATHS} worker processes died over the same piece of work (out of memory?): "
                        "try fewer jobs"
                    )
                task.future = self._submit(function, task.item)
                if not _is_broken(task.future):
                    break
                task.deaths += 1
                self._end(at_once=True)
        for task in unfinished:
            if _is_broken(task.future):
                task.future = self._submit(function, task.item)

    def _start(self) -> None:
        context = get_context("spawn")
        end, self._lifeline = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self._jobs, context, _begin, (end,))

    def _end(self, at_once: bool) -> None:
        if self._pool is None or self._lifeline is None:
            return
        if at_once:
            self._lifeline.close()
        self._pool.shutdown(cancel_futures=at_once)
        self._lifeline.close()
        self._pool = self._lifeline = None


def _begin(lifeline: Connection) -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent, and ends when that lets go of the lifeline."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        lifeline.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_broken(future: Future[Any]) -> bool:
    """Whether a task was lost with its worker, after waiting for it."""
    return future.cancelled() or isinstance(future.exception(), BrokenProcessPool)


@contextmanager
def _spawning() -> Iterator[None]:
    """Within the block, spawned processes get one thread a library, and no Ctrl-C.

    Libraries look at the environment when they load, and a process that still loads would
    answer Ctrl-C with a traceback. Here, it is only put off to the end of the block.
    """
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    can_mask = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if can_mask else set()
    try:
        yield
    finally:
        if can_mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
