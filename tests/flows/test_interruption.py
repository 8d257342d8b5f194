"""A command that is interrupted tells a Prefect server that outlives it: its runs are over, on workers as well."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.states import Running

from flows.interruption import cancel, known
from regiolect.host.interrupts import MESSAGE
from tests.flows.tiny_models import ADDRESS, Workshop
from tests.patience import PATIENCE

SECONDS = 5.0


@flow(name="elsewhere")
def elsewhere() -> None:
    """Stands for a build on a worker; nothing runs it here."""


def state_of(run: UUID) -> StateType | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state_type


def test_runs_of_the_command_are_marked_and_those_on_workers_are_stopped(prefect_server: str) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(elsewhere), "at-a-worker")
        other = client.create_flow_run(elsewhere).id
    children: list[UUID] = []

    @flow(name="in-a-command")
    def command() -> None:
        for _ in range(2):
            children.append(cast(FlowRun, run_deployment(deployment, timeout=0)).id)
        waits, runs = children
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(runs, Running(), force=True)
        cancel()
        assert state_of(UUID(str(flow_run.id))) is StateType.CANCELLED
        assert state_of(waits) is StateType.CANCELLED, "nobody had taken it"
        assert state_of(runs) is StateType.CANCELLING, "its worker ends it"

    # What a run of this process comes to after that is nobody's business: the process ends.
    known(command)(return_state=True)
    assert len(children) == 2
    assert state_of(other) not in (StateType.CANCELLED, StateType.CANCELLING)


def test_a_command_with_a_server_ends_as_soon_and_leaves_no_run_behind(
    workshop: Workshop, environment: Mapping[str, str], tmp_path: Path
) -> None:
    workshop.add("north")
    workshop.hold.write_text("0")
    output = tmp_path / "output"
    with output.open("wb") as stream:
        command = [sys.executable, "-c", "from regiolect.cli.app import main; main()", "run", ADDRESS]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while not workshop.held.exists():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert time.monotonic() - begin < SECONDS
    finally:
        process.kill()
        process.wait()
    assert output.read_text().splitlines()[-1] == MESSAGE
    with get_client(sync_client=True) as client:
        told = {
            run.name: run.state_type for run in client.read_flow_runs() if run.state and run.state.message == MESSAGE
        }
    for name in ("release-tests.flows.tiny_models:TINY", "tiny-north-cpu"):
        assert told[name] is StateType.CANCELLED
