"""Drills: who is drilled, and what counts as refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    Decision,
    GateDecision,
    LossUnit,
    RegionOutcome,
    Seal,
    TensorRange,
)
from regiolect.errors import EmptyDataset, ForeignCalibration, StorageError
from regiolect.gate.champion import not_compared
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest
from regiolect.policy import PolicyBook
from regiolect.release.drills import (
    candidates,
    damaged,
    drill_request,
    judge_broken,
    judge_foreign,
    judge_over_threshold,
    judge_worse,
)
from regiolect.release.outcome import refuse

TABLE = CalibrationTable(
    seal=Seal(
        region="eu",
        model=digest_of("model"),
        preprocessing=digest_of("preprocessing"),
        dataset=digest_of("dataset"),
        sample_ids=("a", "b"),
        checks=digest_of("checks"),
        made=datetime(2026, 3, 4, tzinfo=UTC),
    ),
    method=CalibrationMethod.ENTROPY,
    tensors={"x": TensorRange(threshold=3.2, minimum=-4.0, maximum=4.0)},
)


def request(region: str) -> RegionRequest:
    policy = PolicyBook().load(region)
    return RegionRequest(
        address="examples.fashion:MODEL",
        name="fashion",
        policy=policy,
        target=policy.targets[0],
        build_key=digest_of(region),
        key_parts={},
    )


def gate(outcome: Decision) -> GateDecision:
    return GateDecision.model_validate(
        {
            "outcome": outcome,
            "metric": "accuracy",
            "unit": LossUnit.ABSOLUTE_POINTS,
            "loss": 70.0,
            "loss_lower": 69.0,
            "loss_upper": 71.0,
            "threshold": 2.0,
            "confidence": 0.95,
            "samples": 4000,
            "reasons": ("loss 70.00 points",),
        }
    )


def outcome(of: RegionRequest, decision: Decision) -> RegionOutcome:
    refused = refuse(of, EmptyDataset("samples", "none", "bring some"), seconds=0.0)
    return refused.model_copy(
        update={"decision": decision, "gate": gate(decision), "failure": None, "engine": object()}
    )


def test_the_first_gated_int8_region_is_drilled_with_another_regions_calibration() -> None:
    requests = [request(region) for region in ("de", "jp", "na")]
    outcomes = {r.build_key: outcome(r, Decision.APPROVED) for r in requests}
    chosen = candidates(requests, outcomes)
    assert chosen is not None
    assert [each.region for each in chosen] == ["jp", "de"]


def test_a_region_that_was_refused_donates_nothing() -> None:
    requests = [request(region) for region in ("de", "jp", "na")]
    outcomes = {r.build_key: outcome(r, Decision.APPROVED) for r in requests}
    outcomes[requests[0].build_key] = refuse(requests[0], EmptyDataset("samples", "none", "bring some"), seconds=0.0)
    chosen = candidates(requests, outcomes)
    assert chosen is not None
    assert [each.region for each in chosen] == ["jp", "na"]


@pytest.mark.parametrize("regions", [["de", "eu"], ["jp"]])
def test_without_int8_or_without_a_second_region_there_is_no_drill(regions: list[str]) -> None:
    requests = [request(region) for region in regions]
    assert candidates(requests, {r.build_key: outcome(r, Decision.APPROVED) for r in requests}) is None


def test_a_drill_never_shares_a_build_key_with_the_real_thing() -> None:
    real = request("jp")
    keys = {real.build_key, drill_request(real, "one").build_key, drill_request(real, "two").build_key}
    assert len(keys) == 3


def test_damage_narrows_every_threshold_and_keeps_the_seal() -> None:
    broken = damaged(TABLE)
    assert broken.tensors["x"].threshold == pytest.approx(0.1)
    assert broken.seal == TABLE.seal


@pytest.mark.parametrize(
    ("result", "refused"),
    [
        (ForeignCalibration("na", "eu", "calibrate"), True),
        (StorageError("room", "none", "free some"), False),
        (object(), False),
    ],
)
def test_only_provenance_refuses_a_foreign_calibration(result: object, refused: bool) -> None:
    assert judge_foreign(request("na"), TABLE, result).refused is refused


@pytest.mark.parametrize(
    ("decision", "refused"),
    [(Decision.FAILED, True), (Decision.INCONCLUSIVE, False), (Decision.APPROVED, False)],
)
def test_only_a_failed_gate_refuses_a_damaged_engine(decision: Decision, refused: bool) -> None:
    drill = judge_over_threshold(request("na"), gate(decision))
    assert drill.refused is refused
    assert drill.gate == gate(decision)


@pytest.mark.parametrize("outcome", [Decision.FAILED, Decision.INCONCLUSIVE, Decision.APPROVED])
def test_only_a_sure_loss_against_what_is_served_refuses_a_worse_model(outcome: Decision) -> None:
    beside = not_compared(
        request("na").policy.accuracy, "no results", target="cpu-x86", engine=digest_of("new"), champion="na's own"
    ).model_copy(update={"outcome": outcome})
    drill = judge_worse(request("na"), gate(Decision.APPROVED), beside)
    assert drill.refused is (outcome is Decision.FAILED)
    assert "the gate alone: approved" in drill.detail


def test_drills_that_broke_have_shown_nothing() -> None:
    assert not judge_broken(request("na"), StorageError("room", "none", "free some")).refused
