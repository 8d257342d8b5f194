"""Where a policy asks for a person, nothing is served before one said yes; silence and no are refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStateName, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_runs import resume_flow_run

from flows.release import release
from regiolect.contracts import Decision, Failure, ReleaseRow
from tests.flows.kept import is_served
from tests.flows.tiny_models import ADDRESS, Workshop

YES = {"approve": True, "name": "Ada Lovelace", "comment": ""}
NO = {"approve": False, "name": "Ada Lovelace", "comment": "not before the audit"}


@pytest.fixture
def guarded(workshop: Workshop, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Three regions that ask a person, one that does not; a server whose pages a person could open."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("REGIOLECT_BUILD_ON", "here")
    for region in ("north", "still", "west"):
        workshop.add(region, precision="FP32", approval={"wait_minutes": 2})
    workshop.add("south", precision="FP32")
    return workshop


def _paused(client: SyncPrefectClient) -> list[FlowRun]:
    paused = FlowRunFilterStateType(any_=[StateType.PAUSED])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_state(paused)))


def _state(kind: FlowRunFilterStateType) -> Any:
    from prefect.client.schemas.filters import FlowRunFilterState

    return FlowRunFilterState(type=kind, name=FlowRunFilterStateName(any_=["Paused"]))


@contextmanager
def _answering(
    answers: dict[str, dict[str, Any]], look: Callable[[FlowRun], None] = lambda run: None
) -> Iterator[list[str]]:
    """A person who answers whoever asks, by region, while the block lasts; gives the names of the runs that asked."""
    asked: list[str] = []
    over = threading.Event()

    def answer_all() -> None:
        with get_client(sync_client=True) as client:
            while not over.is_set():
                for run in _paused(client):
                    look(run)
                    asked.append(run.name)
                    resume_flow_run(run.id, run_input=answers[run.name.removeprefix("approve-")])
                over.wait(0.2)

    person = threading.Thread(target=answer_all)
    person.start()
    try:
        yield asked
    finally:
        over.set()
        person.join()


def _rows(**how: Any) -> dict[str, ReleaseRow]:
    result = release(ADDRESS, **how)
    assert result is not None
    return {row.region: row for row in result.rows}


def _failure(row: ReleaseRow) -> Failure:
    """Of an engine that the gate approved and that is not served."""
    assert (row.decision, row.model_uri) == (Decision.APPROVED, None)
    assert row.failure is not None
    assert row.failure.kind == "ApprovalMissing"
    return row.failure


def test_nothing_is_served_before_somebody_said_yes(guarded: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as alone:
        alone.delenv("PREFECT_API_URL")
        rows = _rows()
    for region in ("north", "still", "west"):
        assert "regiolect up" in _failure(rows[region]).remedy, "without a server nobody can be asked"
    assert rows["south"].model_uri == "models:/tiny-south@champion", "the other region is not held up"

    seen: list[bool] = []
    with _answering({"north": YES, "west": NO}, lambda run: seen.append(is_served("north"))) as asked:
        rows = _rows(regions=["north", "south", "west"])
    assert sorted(asked) == ["approve-north", "approve-west"], "one question about each region that asks a person"
    assert not seen[0], "nothing is served while the person thinks"
    assert (rows["north"].decision, rows["north"].model_uri) == (Decision.APPROVED, "models:/tiny-north@champion")
    said = _failure(rows["west"]).found
    assert "Ada Lovelace said no" in said
    assert "not before the audit" in said
    assert not is_served("west")
    assert is_served("south")

    guarded.write_policy("still", precision="FP32", approval={"wait_minutes": 0.02})
    started = time.monotonic()
    silent = _failure(_rows(regions=["still"])["still"])
    assert "none, which means no" in silent.found
    assert time.monotonic() - started < 60

    # Who answered is asked no more; silence is no answer.
    guarded.write_policy("still", precision="FP32", approval={"wait_minutes": 2})
    with _answering({"still": YES}) as asked:
        rows = _rows()
    assert asked == ["approve-still"]
    assert rows["still"].model_uri == "models:/tiny-still@champion"
    assert rows["north"].model_uri == "models:/tiny-north@champion"
    assert "Ada Lovelace said no" in _failure(rows["west"]).found


@pytest.mark.acceptance
def test_the_person_sees_the_gates_figures(guarded: Workshop) -> None:
    shown: list[str] = []

    def look(run: FlowRun) -> None:
        assert run.state is not None
        keyset = run.state.state_details.run_input_keyset
        assert keyset is not None
        with get_client(sync_client=True) as client:
            response = client.request("GET", f"/flow_runs/{run.id}/input/{keyset['description']}")
        shown.append(response.text)

    with _answering({"north": YES}, look):
        row = _rows(regions=["north"])["north"]
    assert row.loss_upper is not None
    assert f"{row.loss_upper:+.2f} at 95%" in shown[0]
    assert "limit" in shown[0]
    assert "400" in shown[0], "the number of samples"
