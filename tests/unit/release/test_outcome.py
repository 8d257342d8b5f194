"""What a region's end is called, and which ends a script may take for success."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import (
    Attestation,
    CheckResult,
    ChosenGraph,
    Decision,
    Drill,
    Failure,
    RegionOutcome,
    ReleaseResult,
    ReleaseRow,
    Split,
    ValidatedCalibration,
    approved_engine,
)
from regiolect.errors import DataCheckFailed
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest
from regiolect.policy import PolicyBook
from regiolect.release.outcome import conclude, refuse


@pytest.fixture
def request_(bundles) -> RegionRequest:
    target = bundles.artifact().request.target
    parts = {"model": "a"}
    return RegionRequest(
        address="m:MODEL",
        name="tiny",
        policy=PolicyBook().load("eu"),
        target=target,
        build_key=digest_of(parts),
        key_parts=parts,
    )


def test_an_engine_without_a_gate_decision_is_built_and_not_attested(bundles, request_: RegionRequest) -> None:
    check = CheckResult(expectation="enough", split=Split.GATE, passed=True, expected="1", observed="2")
    data = ValidatedCalibration.model_construct(dataset=None, checks=(check,))
    attestation = Attestation(graph={}, executed=None, source="no driver on this machine")
    chosen = ChosenGraph(choice=request_.policy.stated_choice())
    outcome = conclude(request_, data, chosen, bundles.artifact(), attestation, None, None, seconds=2.0)
    assert outcome.decision is Decision.NOT_ATTESTED
    assert outcome.reasons == ("not attested: no driver on this machine",)
    assert approved_engine(outcome) is None
    assert outcome.policy == bundles.artifact().request.policy, "its bundle's, whatever today's words are"
    alone = chosen.model_copy(update={"unrepaired": "not repaired, which takes a device"})
    told = conclude(request_, data, alone, bundles.artifact(), attestation, None, None, seconds=2.0)
    assert told.reasons == (*outcome.reasons, f"graph: {chosen.choice.summary()}, not repaired, which takes a device")


def test_an_error_of_ours_keeps_its_words_and_its_checks(request_: RegionRequest) -> None:
    error = DataCheckFailed("own tags", "a foreign one", "take it out")
    error.checks = (CheckResult(expectation="tag", split=Split.GATE, passed=False, expected="eu", observed="na"),)
    outcome = refuse(request_, error, seconds=1.0)
    assert outcome.decision is Decision.REFUSED
    assert outcome.failure == Failure(
        kind="DataCheckFailed", expected="own tags", found="a foreign one", remedy="take it out"
    )
    assert outcome.checks == error.checks
    assert (outcome.build_key, outcome.key_parts) == (request_.build_key, request_.key_parts)


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), KeyboardInterrupt()])
def test_any_other_error_is_named_and_keeps_its_message(request_: RegionRequest, error: BaseException) -> None:
    failure = refuse(request_, error, seconds=1.0).failure
    assert failure is not None
    assert failure.kind == type(error).__name__
    assert failure.found == (str(error) or repr(error))
    assert "log" in failure.remedy


@pytest.mark.parametrize("decision", [Decision.FAILED, Decision.INCONCLUSIVE])
def test_only_an_approved_outcome_gives_an_approved_engine(bundles, decision: Decision) -> None:
    approved: RegionOutcome = bundles.outcome(bundles.artifact())
    assert approved_engine(approved) is not None
    assert approved_engine(bundles.outcome(bundles.artifact(), decision)) is None
    forged = bundles.outcome(bundles.artifact(), decision).model_copy(update={"decision": Decision.APPROVED})
    with pytest.raises(ValidationError, match="the gate said"):
        approved_engine(forged)


# ------------------------------------------------------------------------------------------------- the exit code


def row(decision: Decision, **changes: Any) -> ReleaseRow:
    fields: dict[str, Any] = dict.fromkeys(ReleaseRow.model_fields)
    served = "models:/tiny-eu@champion" if decision is Decision.APPROVED else None
    fields |= {"region": "eu", "title": "Europe", "decision": decision, "rebuilt": True, "seconds": 1.0}
    return ReleaseRow(**(fields | {"reasons": ("a test",), "model_uri": served} | changes))


def result(*rows: ReleaseRow, drills: tuple[Drill, ...] = ()) -> ReleaseResult:
    return ReleaseResult(
        model="tiny", started=datetime.now(UTC), seconds=1.0, rows=rows, drills=drills, tracking_uri="sqlite:///x"
    )


def drill(refused: bool) -> Drill:
    return Drill(name="d", region="eu", attempt="try", refused=refused, by="gate", detail="so")


def test_a_script_may_go_on_only_when_nothing_is_left_to_do() -> None:
    good = row(Decision.APPROVED)
    assert exit_code(result(good, row(Decision.NOT_ATTESTED), drills=(drill(True), drill(True)))) == 0
    for bad in (Decision.FAILED, Decision.INCONCLUSIVE, Decision.REFUSED):
        assert exit_code(result(good, row(bad))) == 1


def test_a_drill_that_gets_through_is_a_failure_although_every_region_is_approved() -> None:
    assert exit_code(result(row(Decision.APPROVED), drills=(drill(True), drill(False)))) == 1


def test_an_approved_engine_that_is_not_served_is_a_failure() -> None:
    lost = Failure(kind="RegistryError", expected="an answer", found="none", remedy="start MLflow")
    assert exit_code(result(row(Decision.APPROVED, failure=lost))) == 1
    assert exit_code(result(row(Decision.APPROVED, model_uri=None))) == 1
