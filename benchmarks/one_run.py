"""One run of benchmarks.orchestration, in a process and with an environment of its own; its figures go to a file.

Run as `python -m benchmarks.one_run FILE RUN ADDRESS ...` with one of RUNS and addresses of models. Seconds are wall
time, except `cpu`: processor time of this process and, where it has started one, of Prefect's server.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from regiolect.settings import load_settings

SIDE_BY_SIDE = 2
_EMPTY_TASKS = 100

Figures = dict[str, float]


def main() -> None:
    """Do what is asked for and write its figures as JSON."""
    file, what, *addresses = sys.argv[1:]
    load_settings()
    # Without its folder Prefect's embedded server does not start.
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    figures = RUNS[what](addresses)
    Path(file).write_text(json.dumps(figures))


def prepare(addresses: Sequence[str]) -> Figures:
    """Release the first model for real, and keep what came of it for the others."""
    from benchmarks.finished_models import keep_as_built
    from flows.release import release

    clock = time.perf_counter()
    release(addresses[0])
    released = time.perf_counter()
    keep_as_built(addresses, load_settings())
    return {"release": released - clock, "keep": time.perf_counter() - released}


def register(addresses: Sequence[str]) -> Figures:
    """Register all models but the first."""
    from benchmarks.finished_models import register_as_built

    clock = time.perf_counter()
    register_as_built(addresses, load_settings())
    return {"register": time.perf_counter() - clock}


def nightly(addresses: Sequence[str]) -> Figures:
    """A night in which nothing has changed."""
    from flows.nightly import nightly as flow
    from regiolect.registry import Registry
    from regiolect.release import nightly as planning

    start = _start_server()
    planned: Figures = {"seconds": 0.0, "calls": 0}
    asked: Figures = {"seconds": 0.0, "calls": 0}
    with (
        _timed(planning, "plan_night", planned),
        _timed(Registry, "champions", asked),
        _requests() as requests,
    ):
        used, clock = _cpu(), time.perf_counter()
        result = flow(models=list(addresses))
        seconds = time.perf_counter() - clock
        used = _cpu() - used
    if result.troubles or result.releases or result.unchanged != result.engines:
        raise SystemExit(f"not a night without changes: {result.model_dump_json(indent=2)[:2000]}")
    return {
        "server_start": start,
        "seconds": seconds,
        "cpu": used,
        "planning": planned["seconds"],
        "champions": asked["seconds"],
        "rest": seconds - planned["seconds"] - asked["seconds"],
        "engines": result.engines,
        "requests": requests["calls"],
    }


def release(addresses: Sequence[str]) -> Figures:
    """The release flow, and what an empty task costs after it."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from flows.release import release as released

    start = _start_server()
    used, clock = _cpu(), time.perf_counter()
    result = released(addresses[0])
    seconds = time.perf_counter() - clock
    used = _cpu() - used
    if result is None:
        raise SystemExit("a dry run")

    @task(cache_policy=NO_CACHE)
    def nothing() -> None:
        """An empty task."""

    @flow
    def many_times() -> float:
        begin = time.perf_counter()
        for _ in range(_EMPTY_TASKS):
            nothing()
        return (time.perf_counter() - begin) / _EMPTY_TASKS

    return {
        "server_start": start,
        "seconds": seconds,
        "cpu": used,
        "built": sum(row.rebuilt for row in result.rows),
        "per_task": many_times(),
    }


def peer(addresses: Sequence[str]) -> Figures:
    """The same release without its orchestrator."""
    from benchmarks.without_prefect import release as released

    used, clock = _cpu(), time.perf_counter()
    result = released(addresses[0], SIDE_BY_SIDE)
    seconds = time.perf_counter() - clock
    return {"seconds": seconds, "cpu": _cpu() - used, "built": sum(row.rebuilt for row in result.rows)}


RUNS: dict[str, Callable[[Sequence[str]], Figures]] = {
    run.__name__: run for run in (prepare, register, nightly, release, peer)
}


def _start_server() -> float:
    """Seconds that the first flow of a process takes, in which Prefect starts its embedded server."""
    from prefect import flow

    @flow
    def trivial() -> None:
        """Nothing."""

    clock = time.perf_counter()
    trivial()
    return time.perf_counter() - clock


def _cpu() -> float:
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextmanager
def _timed(owner: Any, name: str, spent: Figures) -> Iterator[None]:
    """Adds up the seconds and calls that go into a function of a module or class, from whichever thread."""
    function = getattr(owner, name)

    def timed(*args: Any, **how: Any) -> Any:
        clock = time.perf_counter()
        try:
            return function(*args, **how)
        finally:
            spent["seconds"] += time.perf_counter() - clock
            spent["calls"] += 1

    with mock.patch.object(owner, name, timed):
        yield


@contextmanager
def _requests() -> Iterator[Figures]:
    """Counts what is sent to S3."""
    from botocore.httpsession import URLLib3Session

    spent: Figures = {"seconds": 0.0, "calls": 0}
    with _timed(URLLib3Session, "send", spent):
        yield spent


if __name__ == "__main__":
    main()
