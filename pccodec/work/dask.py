"""Work spread over the machines of a Dask cluster."""

from __future__ import annotations

from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from pccodec import __version__
from pccodec.errors import DependencyError, WorkerError
from pccodec.work.base import Item, Result

_AHEAD = 2
"""Items a thread of a worker that may be taken ahead of the results."""

_CONNECT = "10s"
_WORKERS = "30s"


class DaskWorkers:
    """The workers of a Dask scheduler; a context manager that lets go of them.

    They need pccodec in the same version, and files that items name under the same path. The
    scheduler gives the work of a worker that dies to another one; how often is its setting
    ``distributed.scheduler.allowed-failures``. Leaving the block cancels what is not finished.
    """

    def __init__(self, address: str) -> None:
        """Connect to a scheduler, such as ``tcp://10.0.0.1:8786``.

        Raises:
            DependencyError: dask.distributed is not installed.
            WorkerError: the scheduler cannot be reached, or has no workers that can be used.
        """
        try:
            import distributed
        except ImportError as error:
            raise DependencyError("a scheduler needs Dask: pip install 'pccodec[dask]'") from error
        self._lost = (distributed.KilledWorker, distributed.comm.CommClosedError, CancelledError)
        try:
            self._client: Any = distributed.Client(address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkerError(f"cannot reach the Dask scheduler at {address}") from error
        try:
            self._check_workers(address)
        except BaseException:
            self._client.close()
            raise

    def _check_workers(self, address: str) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS)
        except TimeoutError as error:
            raise WorkerError(f"the Dask scheduler at {address} has no workers") from error
        # A worker that is dying or just coming has no say.
        answers = self._client.run(_version, on_error="return").values()
        if any(isinstance(answer, ImportError) for answer in answers):
            raise WorkerError(f"the workers of {address} do not have pccodec")
        others = sorted({answer for answer in answers if isinstance(answer, str)} - {__version__})
        if others:
            raise WorkerError(f"the workers of {address} have pccodec {', '.join(others)}, not {__version__}")

    def __enter__(self) -> DaskWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; at most two items a thread are taken ahead of them.

        Raises:
            WorkerError: too many workers died over the same item, or the scheduler is gone.
            Exception: whatever ``function`` or ``items`` raise, as it is.
        """
        source = iter(items)
        ahead = _AHEAD * max(1, sum(self._client.nthreads().values()))
        window: deque[Any] = deque()
        try:
            while True:
                while len(window) < ahead:
                    try:
                        item = next(source)
                    except StopIteration:
                        break
                    # Not pure: equal items may stand for files that changed meanwhile.
                    window.append(self._client.submit(function, item, pure=False))
                if not window:
                    return
                try:
                    result: Result = window[0].result()
                except self._lost as error:
                    raise WorkerError(
                        "workers of the Dask cluster died over the same piece of work, or it is gone: "
                        f"{' '.join(str(error).split())[:200]}"
                    ) from error
                window.popleft()
                yield result
        finally:
            if window:
                self._client.cancel(list(window))


def _version() -> str:
    """Of pccodec where this runs."""
    return __version__
