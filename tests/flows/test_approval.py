"""Where a policy asks for a person, nothing is served before one said yes; silence and no are refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStateName, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_runs import resume_flow_run

from flows.release import release
from regiolect.contracts import Decision, ReleaseRow
from tests.flows.kept import is_served
from tests.flows.tiny_models import ADDRESS, Workshop

YES = {"approve": True, "name": "Ada Lovelace", "comment": ""}
NO = {"approve": False, "name": "Ada Lovelace", "comment": "not before the audit"}


@pytest.fixture
def guarded(workshop: Workshop, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """One region that asks a person, one that does not; a server whose pages a person could open."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("REGIOLECT_BUILD_ON", "here")
    workshop.add("north", precision="FP32", approval={"wait_minutes": 2})
    workshop.add("south", precision="FP32")
    return workshop


def _paused() -> list[FlowRun]:
    paused = FlowRunFilterStateType(any_=[StateType.PAUSED])
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_state(paused)))


def _state(kind: FlowRunFilterStateType) -> Any:
    from prefect.client.schemas.filters import FlowRunFilterState

    return FlowRunFilterState(type=kind, name=FlowRunFilterStateName(any_=["Paused"]))


@contextmanager
def _answering(answer: dict[str, Any], look: Callable[[FlowRun], None] = lambda run: None) -> Iterator[list[FlowRun]]:
    """A person who answers whoever asks, while the block lasts; gives the runs that asked."""
    asked: list[FlowRun] = []
    over = threading.Event()

    def answer_all() -> None:
        while not over.is_set():
            for run in _paused():
                look(run)
                asked.append(run)
                resume_flow_run(run.id, run_input=answer)
            over.wait(0.2)

    person = threading.Thread(target=answer_all)
    person.start()
    try:
        yield asked
    finally:
        over.set()
        person.join()


def _row(region: str, **how: Any) -> ReleaseRow:
    result = release(ADDRESS, **how)
    assert result is not None
    return next(row for row in result.rows if row.region == region)


def test_yes_serves_the_engine_and_nobody_is_asked_again(guarded: Workshop) -> None:
    seen: list[tuple[bool, bool]] = []
    with _answering(YES, lambda run: seen.append((is_served("north"), is_served("south")))) as asked:
        row = _row("north")
        assert (row.decision, row.model_uri) == (Decision.APPROVED, "models:/tiny-north@champion")
        again = _row("north")
    assert again.model_uri == "models:/tiny-north@champion"
    assert [run.name for run in asked] == ["approve-north"], "one question, about the region that asks a person"
    assert not seen[0][0], "nothing is served while the person thinks"


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

    with _answering(YES, look):
        row = _row("north", regions=["north"])
    assert row.loss_upper is not None
    assert f"{row.loss_upper:+.2f} at 95%" in shown[0]
    assert "limit" in shown[0]
    assert "400" in shown[0], "the number of samples"


def test_no_is_told_with_its_reason_and_remembered(guarded: Workshop) -> None:
    with _answering(NO) as asked:
        row = _row("north")
        assert row.decision is Decision.APPROVED
        assert row.model_uri is None
        assert row.failure is not None
        assert row.failure.kind == "ApprovalMissing"
        assert "Ada Lovelace said no" in row.failure.found
        assert "not before the audit" in row.failure.found
        again = _row("north")
    assert again.failure is not None
    assert len(asked) == 1
    assert not is_served("north")
    assert is_served("south"), "the other region is not held up"


def test_silence_means_no_and_is_asked_again(guarded: Workshop) -> None:
    guarded.write_policy("north", precision="FP32", approval={"wait_minutes": 0.02})
    started = time.monotonic()
    row = _row("north", regions=["north"])
    assert row.failure is not None
    assert (row.failure.kind, row.model_uri) == ("ApprovalMissing", None)
    assert "none, which means no" in row.failure.found
    assert time.monotonic() - started < 60
    guarded.write_policy("north", precision="FP32", approval={"wait_minutes": 2})
    with _answering(YES) as asked:
        assert _row("north", regions=["north"]).model_uri == "models:/tiny-north@champion"
    assert len(asked) == 1


def test_without_a_server_nobody_can_be_asked_and_nothing_is_served(
    guarded: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    row = _row("north", regions=["north"])
    assert row.failure is not None
    assert (row.failure.kind, row.model_uri) == ("ApprovalMissing", None)
    assert "regiolect up" in row.failure.remedy
