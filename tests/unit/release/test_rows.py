"""The table of a release: what is served, and what is still served although nothing new was approved."""

from __future__ import annotations

import pytest

from regiolect.contracts import Decision, Failure, Published, RegionOutcome, RegisteredEngine, ReleaseRow
from regiolect.errors import RegistryError
from regiolect.integrity import digest_of
from regiolect.planning import Plan, PlannedEngine, RegionRequest
from regiolect.policy import PolicyBook
from regiolect.release.outcome import Publication, rows_of


@pytest.fixture
def outcome(bundles) -> RegionOutcome:
    return bundles.outcome(bundles.artifact())


def champion(of: RegionOutcome, **changes: object) -> RegisteredEngine:
    fields = {
        "name": "tiny-eu",
        "version": 3,
        "uri": "models:/tiny-eu/3",
        "champion": True,
        "policy": of.policy,
        "targets": (of.target.name,),
        "build_keys": (of.build_key,),
    }
    return RegisteredEngine.model_validate({**fields, **changes})


def row(of: RegionOutcome, published: RegisteredEngine | Publication, built: bool = True) -> ReleaseRow:
    policy = PolicyBook().load("eu")
    request = RegionRequest(
        address="m:MODEL", name="tiny", policy=policy, target=of.target, build_key=of.build_key, key_parts={}
    )
    planned = PlannedEngine(
        region="eu", title="Europe", target=of.target.name, precision=None, action="build", reason="", request=request
    )
    rows = rows_of(
        Plan(address="m:MODEL", name="tiny", engines=(planned,)),
        {of.build_key: of},
        {of.build_key} if built else set(),
        {"eu": Published(champion=published) if isinstance(published, RegisteredEngine) else published},
    )
    return rows[0]


def test_an_approved_engine_is_served_under_the_alias(outcome: RegionOutcome) -> None:
    served = row(outcome, champion(outcome))
    assert served.model_uri == "models:/tiny-eu@champion"
    assert served.rebuilt
    assert not row(outcome, champion(outcome), built=False).rebuilt


def test_an_engine_that_could_not_be_registered_says_why_and_is_not_served(outcome: RegionOutcome) -> None:
    lost = row(outcome, RegistryError("an answer", "none", "start MLflow"))
    assert lost.model_uri is None
    assert lost.failure is not None
    assert (lost.failure.kind, lost.failure.remedy) == ("RegistryError", "start MLflow")


def test_an_engine_that_was_held_back_says_why_and_one_that_stays_served_does_not(outcome: RegionOutcome) -> None:
    held = Failure(kind="WorseThanChampion", expected="no worse", found="cpu: loss 70 points", remedy="promote it")
    newer = champion(outcome, build_keys=(digest_of("served"),))
    kept = row(outcome, Published(champion=newer, challenger=champion(outcome, champion=False), held=held))
    assert (kept.model_uri, kept.failure) == (None, held)
    assert row(outcome, Published(champion=champion(outcome), held=held)).failure is None


def test_a_failed_engine_does_not_hide_the_old_champion(outcome: RegionOutcome) -> None:
    failed = outcome.model_copy(update={"decision": Decision.FAILED, "build_key": digest_of("new")})
    old = row(failed, champion(outcome, policy=digest_of("old policy")))
    assert old.model_uri is None
    assert old.reasons[-1] == "still served: models:/tiny-eu/3 is champion, approved under another policy than today's"


def test_an_old_champion_under_todays_policy_is_told_as_such(outcome: RegionOutcome) -> None:
    failed = outcome.model_copy(update={"decision": Decision.FAILED, "build_key": digest_of("new")})
    assert row(failed, champion(outcome)).reasons[-1].endswith("approved under today's policy")


def test_a_champion_for_other_targets_is_none_of_this_rows_business(outcome: RegionOutcome) -> None:
    failed = outcome.model_copy(update={"decision": Decision.FAILED, "build_key": digest_of("new")})
    assert row(failed, champion(outcome, targets=("gpu",))).reasons == failed.reasons
