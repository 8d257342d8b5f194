"""One release at a time at a registered model's aliases: through a Prefect server, and without one."""

from __future__ import annotations

import contextvars
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from regiolect.errors import OrchestratorError, RegistrationBusy, RegistryError
from regiolect.registry import Exclusively
from regiolect.settings import Settings, load_settings
from tasks.publish import champion, publish
from tasks.registration_lock import held_slot, limit_of, one_release_at_a_time
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("prefect_server")
NOWHERE = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}


def _active(name: str) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(limit_of(name)).active_slots


@contextmanager
def _held_by_another(hold: Exclusively, name: str) -> Iterator[None]:
    """While the block lasts another thread holds it."""
    holds, ends = threading.Event(), threading.Event()

    def work() -> None:
        with hold(name):
            holds.set()
            ends.wait(60)

    with ThreadPoolExecutor(1) as pool:
        # Prefect's settings are in the context.
        held = pool.submit(contextvars.copy_context().run, work)
        assert holds.wait(60), held.result(1)
        try:
            yield
        finally:
            ends.set()
        held.result(60)


def _together(hold: Exclusively, name: str, count: int) -> list[int]:
    """How many were inside whenever one came in, when `count` threads come at once to what nobody used before."""
    inside, seen, start = [0], [], threading.Barrier(count)

    def work() -> None:
        start.wait(30)
        with hold(name):
            inside[0] += 1
            seen.append(inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    with ThreadPoolExecutor(count) as pool:
        futures: list[Future[None]] = [pool.submit(contextvars.copy_context().run, work) for _ in range(count)]
        for future in futures:
            future.result(120)
    return seen


@pytest.fixture
def by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exclusively:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return one_release_at_a_time(Settings(home=tmp_path))


def test_releases_with_a_server_come_in_one_by_one() -> None:
    assert _together(held_slot, "tiny-new", 3) == [1, 1, 1]
    assert _active("tiny-new") == 0


def test_releases_without_a_server_come_in_one_by_one(by_file: Exclusively) -> None:
    assert _together(by_file, "tiny-new", 3) == [1, 1, 1]


def test_names_do_not_wait_for_each_other(by_file: Exclusively) -> None:
    for hold in (held_slot, by_file):
        with _held_by_another(hold, "tiny-one"), hold("tiny-two"):
            pass


def test_a_server_in_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    with one_release_at_a_time(Settings(home=tmp_path))("tiny-there"):
        assert _active("tiny-there") == 1
    assert _active("tiny-there") == 0


def test_who_waits_too_long_is_told_who_is_there_and_how_to_reset_it(prefect_server: str) -> None:
    holds, ends = threading.Event(), threading.Event()

    @task(task_run_name=limit_of("tiny-busy"))
    def hold() -> None:
        with held_slot("tiny-busy"):
            holds.set()
            ends.wait(60)

    @flow(flow_run_name="release-of-tiny")
    def release() -> None:
        hold()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(contextvars.copy_context().run, release)
        try:
            assert holds.wait(60)
            # What a task run is doing reaches the server a moment later.
            deadline = time.monotonic() + PATIENCE
            said = ""
            while "'release-of-tiny' since 2" not in said:
                assert time.monotonic() < deadline, said
                with pytest.raises(RegistrationBusy) as caught, held_slot("tiny-busy", wait_seconds=0.2):
                    pass
                said = caught.value.found
            command = shlex.split(caught.value.remedy.rpartition(": ")[2])
            environment = {**os.environ, "PREFECT_API_URL": prefect_server}
            subprocess.run([sys.executable, "-m", *command], env=environment, check=True, capture_output=True)
            with held_slot("tiny-busy", wait_seconds=5):
                assert _active("tiny-busy") == 1
        finally:
            ends.set()
        held.result(60)


def test_who_waits_for_the_slot_says_so_and_for_which_runs(caplog: pytest.LogCaptureFixture) -> None:
    with (
        _held_by_another(held_slot, "tiny-told"),
        pytest.raises(RegistrationBusy),
        held_slot("tiny-told", wait_seconds=3.0),
    ):
        pytest.fail("another holds it")
    said = "waits to be alone at tiny-told: registering now: no run that the server knows; has waited "
    assert said in caplog.text
    assert "s of at most 3 s" in caplog.text


@pytest.mark.parametrize(
    ("changes", "found", "commands"),
    [
        pytest.param(
            {"active": False},
            "1 slot, and it is disabled",
            ["enable {}"],
            id="disabled",
            marks=pytest.mark.acceptance,
        ),
        pytest.param({"limit": 2}, "2 slots", ["update {} --limit 1"], id="raised", marks=pytest.mark.acceptance),
        pytest.param(
            {"limit": 2, "active": False},
            "2 slots, and it is disabled",
            ["update {} --limit 1", "enable {}"],
            id="both",
        ),
    ],
)
def test_a_limit_that_keeps_no_two_releases_apart_is_refused_until_it_is_mended(
    changes: dict[str, Any], found: str, commands: list[str], prefect_server: str
) -> None:
    name = "tiny-unfit"
    with held_slot(name):
        pass
    _change(name, changes)
    with pytest.raises(OrchestratorError) as refused, held_slot(name):
        pytest.fail("another could be here")
    assert refused.value.found == found
    told = refused.value.remedy.partition(";")[0].split(" && ")
    assert told == [f"prefect gcl {command.format(limit_of(name))}" for command in commands]
    for command in told:
        environment = {**os.environ, "PREFECT_API_URL": prefect_server}
        subprocess.run([sys.executable, "-m", *shlex.split(command)], env=environment, check=True, capture_output=True)
    with held_slot(name):
        assert _active(name) == 1


def test_a_limit_that_is_disabled_while_a_release_waits_lets_it_in_no_more() -> None:
    name = "tiny-opened"

    def disable_later() -> None:
        time.sleep(2)
        _change(name, {"active": False})

    with _held_by_another(held_slot, name):
        changing = threading.Thread(target=contextvars.copy_context().run, args=(disable_later,))
        changing.start()
        with pytest.raises((OrchestratorError, RegistrationBusy)), held_slot(name, wait_seconds=60):
            pytest.fail("the other one is still there")
        changing.join(60)
    _change(name, {"active": True})


def _change(name: str, changes: dict[str, Any]) -> None:
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(limit_of(name), GlobalConcurrencyLimitUpdate(**changes))


def test_a_server_that_does_not_answer_is_named() -> None:
    with (
        temporary_settings(NOWHERE),
        pytest.raises(OrchestratorError, match="concurrency limit 'register-tiny-eu'"),
        held_slot("tiny-eu"),
    ):
        pytest.fail("nobody gave a slot")


def test_a_slot_that_cannot_be_given_back_spoils_nothing() -> None:
    slot = held_slot("tiny-lost")
    slot.__enter__()
    with temporary_settings(NOWHERE):
        slot.__exit__(None, None, None)


def test_what_goes_wrong_inside_comes_out_and_the_slot_is_given_back() -> None:
    with pytest.raises(RegistryError), held_slot("tiny-fails"):
        raise RegistryError("a", "b", "c")
    assert _active("tiny-fails") == 0


def test_the_run_that_registers_bears_the_name_that_a_waiter_asks_for(bundles: Any, workshop: object) -> None:
    here, names = replace(bundles, store=load_settings().store("eu")), []
    told = publish.with_options(on_completion=[lambda task, run, state: names.append(run.name)])

    @flow
    def release() -> None:
        outcomes = (here.outcome(here.artifact()),)
        assert told(
            "tests.flows.tiny_models:TINY", here.exported(), outcomes, here.policy_of("eu")
        ).champion == champion("tiny", "eu")

    release()
    assert names == [limit_of("tiny-eu")]
