"""Workers: the same results in the same order, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pccodec.errors import DependencyError, InputError, WorkerError
from pccodec.work import Serial, open_workers
from pccodec.work.processes import Processes
from tests.work_functions import die_once, die_over_two, refuse, report, square

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as workers:
        yield workers


def test_order_and_reuse(processes: Processes) -> None:
    assert list(processes.run(square, range(20))) == [n * n for n in range(20)]
    assert list(processes.run(square, [])) == []
    reports = list(processes.run(report, range(6)))
    assert {threads for _, threads in reports} == {"1"}
    assert os.getpid() not in {pid for pid, _ in reports}
    assert len({pid for pid, _ in reports}) <= 2


def test_few_items_are_taken_ahead(processes: Processes) -> None:
    taken = []

    def items() -> Iterator[int]:
        for n in range(30):
            taken.append(n)
            yield n

    for done, result in enumerate(processes.run(square, items())):
        assert result == done * done
        assert len(taken) - done <= 4
    assert len(taken) == 30


def test_errors_are_those_of_the_function(processes: Processes) -> None:
    results = processes.run(refuse, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="3 cannot be used"):
        next(results)
    assert list(processes.run(square, [4])) == [16]


def test_a_killed_worker_costs_no_result(tmp_path: Path) -> None:
    with Processes(2) as workers:
        assert list(workers.run(partial(die_once, tmp_path), range(9))) == [n * n for n in range(9)]
    assert {path.name for path in tmp_path.iterdir()} == {"2", "5"}


def test_an_item_that_kills_is_given_up(tmp_path: Path) -> None:
    with Processes(2) as workers:
        results = workers.run(partial(die_over_two, tmp_path), range(6))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(WorkerError, match="3 worker processes died"):
            next(results)
    assert (tmp_path / "deaths").read_text() == "2\n" * 3


STOPPED = """
import os, sys, time
from pathlib import Path
from pccodec.work.processes import Processes
from tests.work_functions import wait
if __name__ == "__main__":
    with Processes(2) as workers:
        list(workers.run(wait, [Path(sys.argv[1]) / str(n) for n in range(4)]))
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody reaps is dead too.
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STOPPED)
    folder = tmp_path / "marks"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05)
    workers = [int(mark.read_text()) for mark in folder.iterdir()]
    assert len(workers) == 2
    started = time.monotonic()
    # Ctrl-C goes to all processes of the terminal.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, messages = process.communicate(timeout=20)
    assert process.returncode
    while any(map(is_alive, workers)) and time.monotonic() < started + 10:
        time.sleep(0.02)
    assert not any(map(is_alive, workers))
    assert messages.count(b"Traceback") <= 1, messages.decode()


def test_choice() -> None:
    with open_workers(1) as workers:
        assert isinstance(workers, Serial)
    with open_workers(3) as workers:
        assert isinstance(workers, Processes)


def test_no_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DependencyError, match=r"pccodec\[dask\]"):
        open_workers(scheduler="tcp://127.0.0.1:1")
