"""Workers of a Dask cluster on loopback: the same results, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pccodec.cli import main
from pccodec.errors import InputError, WorkerError
from pccodec.io import write
from pccodec.work import dask as module
from pccodec.work import open_workers
from tests.work_functions import die_once, die_over_two, refuse, square

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 2}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster
        with distributed.Client(cluster) as client:
            # A worker that died in the last test is started anew, and until then its keeper cannot be closed.
            client.wait_for_workers(2, timeout=60)


def test_order_and_errors(cluster: Any) -> None:
    with open_workers(scheduler=cluster.scheduler_address) as workers:
        assert list(workers.run(square, range(20))) == [n * n for n in range(20)]
        results = workers.run(refuse, range(9))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(InputError, match="3 cannot be used"):
            next(results)
        taken = []
        for done, _ in enumerate(workers.run(square, (taken.append(n) or n for n in range(30)))):  # type: ignore[func-returns-value]
            assert len(taken) - done <= 4
        assert len(taken) == 30


def test_streams_are_the_same_as_of_one_process(cluster: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "clouds").mkdir()
    for name in "abc":
        write(tmp_path / "clouds" / f"{name}.npy", rng.integers(0, 30, (300, 3)))
    found = []
    for options in ([], ["--scheduler", cluster.scheduler_address]):
        target = tmp_path / f"{len(options)}"
        command = ["encode", str(tmp_path / "clouds"), "-o", str(target), *options]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        found.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert set(found[0]) == {"a.pcc", "b.pcc", "c.pcc"}
    assert found[0] == found[1]


def test_other_versions_are_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__version__", "999.0")
    with pytest.raises(WorkerError, match=r"have pccodec .*, not 999\.0"):
        open_workers(scheduler=cluster.scheduler_address)


def test_no_scheduler_and_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONNECT", "1s")
    monkeypatch.setattr(module, "_WORKERS", "1s")
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(WorkerError, match="cannot reach"):
            open_workers(scheduler=address)
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as empty,
        pytest.raises(WorkerError, match="has no workers"),
    ):
        open_workers(scheduler=empty.scheduler_address)


def test_a_killed_worker_costs_no_result(cluster: Any, tmp_path: Path) -> None:
    with open_workers(scheduler=cluster.scheduler_address) as workers:
        assert list(workers.run(partial(die_once, tmp_path), range(5))) == [n * n for n in range(5)]
    assert {path.name for path in tmp_path.iterdir()} == {"2"}


def test_an_item_that_kills_is_given_up(cluster: Any, tmp_path: Path) -> None:
    with open_workers(scheduler=cluster.scheduler_address) as workers:
        results = workers.run(partial(die_over_two, tmp_path), [1, 2])
        assert next(results) == 1
        with pytest.raises(WorkerError, match="died over the same piece of work"):
            next(results)
    assert (tmp_path / "deaths").read_text() == "2\n" * 3
