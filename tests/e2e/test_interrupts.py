"""Commands that are interrupted where it hurts, on real processes that share a home: what is seen, and what stays.

The order matters: each test leaves the home as the next one takes it up.
"""

from __future__ import annotations

import json
import os
import signal

import httpx
import pytest

from tests.databases import Databases
from tests.e2e.interrupted import Desk, desk_in, lives
from tests.e2e.terminal import Terminal
from tests.flows.tiny_models import ADDRESS, IMPORTS
from tests.patience import PATIENCE

SECONDS = 5.0


@pytest.fixture(scope="module")
def desk(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = desk_in(tmp_path_factory.mktemp("desk"))
    databases.put(made.home)
    return made


def test_by_ctrl_c_what_was_finished_is_kept_and_the_server_asked_for_a_password(desk: Desk) -> None:
    # A machine so loaded that Prefect itself would have given up waiting for its server; and a model whose module
    # imports Prefect, before it could be told of that server.
    settings = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1", IMPORTS: "prefect"}
    # In the second region's evaluation.
    with desk.held_at(9, "run", ADDRESS, **settings) as running:
        server = running.server()
        assert running.listening() == [server]
        assert os.getsid(server.pid) == server.pid
        (listening,) = [found for found in server.net_connections("tcp") if found.status == "LISTEN"]
        assert listening.laddr.ip == "127.0.0.1"
        address = f"http://127.0.0.1:{listening.laddr.port}/api"
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            assert client.get("/health").status_code == 200
            assert client.post("/flow_runs/filter", json={}).status_code == 401
            assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
            foreign = client.get("/health", headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers
        before = desk.records
        assert len([path for path in before if path.parent.name == "outcomes"]) == 1
        assert running.interrupted(signal.SIGINT) < SECONDS
    assert desk.records == before


# One that is killed leaves no more and no less: tests/flows/test_failures.py goes on from that among the other tests.
@pytest.mark.acceptance
def test_a_run_goes_on_from_what_is_kept(desk: Desk) -> None:
    before = desk.records
    with desk.typed("run", ADDRESS, "--json", str(desk.workshop.folder / "result.json")) as running:
        assert running.process.wait(PATIENCE) == 0, running.said()
    rows = json.loads((desk.workshop.folder / "result.json").read_text())["rows"]
    assert {row["region"]: row["rebuilt"] for row in rows} == {"east": False, "north": True}
    kept = [path for path in before if path.parent.name in ("exports", "observations", "outcomes")]
    assert {path: before[path] for path in kept}.items() <= desk.records.items()


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("score", "number"), [(0, signal.SIGINT), (3, signal.SIGTERM)], ids=["in a build", "in an evaluation"]
)
def test_in_the_first_regions_stages(desk: Desk, score: int, number: signal.Signals) -> None:
    with desk.held_at(score, "run", ADDRESS, "--force") as running:
        # What was observed anew is finished, and kept.
        before = desk.records
        assert running.interrupted(number) < SECONDS
    assert desk.records == before


@pytest.mark.acceptance
def test_in_a_tuning_by_ctrl_c(desk: Desk) -> None:
    before = desk.records
    with desk.in_tuning("east") as running:
        assert running.interrupted(signal.SIGINT) < SECONDS
    assert desk.records == before


@pytest.mark.acceptance
def test_in_a_wait_that_names_whom_it_waits_for(desk: Desk) -> None:
    before = desk.records
    with desk.in_wait() as (running, holder):
        assert f"waits to work on this machine: process {holder} (-c) times since " in running.said()
        assert running.interrupted(signal.SIGINT) < SECONDS
    assert desk.records == before


def test_killed_alone_its_server_ends_with_it_and_one_that_does_not_is_named_by_the_doctor(desk: Desk) -> None:
    """One that is stopped cannot see that its parent is gone."""
    with desk.typed("run", ADDRESS, "--force") as running:
        running.until(running.listening)
        server = running.server()
        server.suspend()
        running.process.kill()
        running.process.wait()
        try:
            done = Terminal(desk.workshop).here("doctor")
            assert lives(server)
        finally:
            server.resume()
        server.wait(SECONDS)
    assert f"process {server.pid} since 2" in done.stdout
    assert f"kill {server.pid}" in done.stdout
    assert not lives(server)
