"""A crash, a hang and hunger for memory in one region's engine are that region's outcome, and no other's."""

from __future__ import annotations

import pytest

from flows.release import release
from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import Decision, Failure, ReleaseResult, place_of
from regiolect.engines.catalog import backend
from regiolect.errors import EngineCrashed
from tests.flows.kept import is_served, plan
from tests.flows.tiny_models import ADDRESS, PORTABLE, Workshop

# Where INT8 is built on this machine.
HERE = place_of("cpu", backend("openvino").arithmetic())
# What happens to a region's engine, and what is said of it.
FAULTS = {
    "segv": ("SIGSEGV", "EngineCrashed", "its process died by SIGSEGV"),
    "kill": ("SIGKILL", "EngineCrashed", "its process died by SIGKILL"),
    "hang": ("hang", "EngineCrashed", "it was ended: no answer within 0.4 minutes, its limit"),
    "hungry": ("memory", "EngineCrashed", "it was ended: more than 2 GiB of memory resident, its limit"),
    # Its policy wants an answer sooner than the limit comes.
    "late": ("hang", "DeadlineExceeded", "it was stopped: "),
}


@pytest.fixture
def faulty(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Every region but `north` has a fault of its own when its first graph is scored."""
    monkeypatch.setenv("REGIOLECT_CHILD_MEMORY_GIB", "2")
    monkeypatch.setenv("REGIOLECT_CHILD_MINUTES", "0.4")
    for region, (fault, _, _) in FAULTS.items():
        workshop.add(region, **({"nightly": {"deadline_minutes": 0.2}} if region == "late" else {}))
        workshop.set_fault(f"{region} on {HERE}", fault)
    workshop.add("north", PORTABLE)
    return workshop


def failures(result: ReleaseResult) -> dict[str, Failure]:
    return {row.region: row.failure for row in result.rows if row.failure is not None}


def test_a_crash_a_hang_and_hunger_are_their_regions_outcomes_and_the_others_are_served(faulty: Workshop) -> None:
    faulty.set_fault(ADDRESS, "SIGABRT")
    with pytest.raises(
        EngineCrashed, match=f"'export' of {ADDRESS} to come to its end; found its process died by SIGABRT"
    ):
        release(ADDRESS)
    # A crash in the export is the model's, and the command lives.
    faulty.fault(ADDRESS).unlink()
    result = release(ADDRESS)
    told = failures(result)
    assert {region: failure.kind for region, failure in told.items()} == {
        region: kind for region, (_, kind, _) in FAULTS.items()
    }
    assert all(told[region].found.startswith(found) for region, (_, _, found) in FAULTS.items())
    assert told["segv"].expected == f"the stage 'choose' of segv on {HERE} to come to its end"
    north = next(row for row in result.rows if row.region == "north")
    assert (north.decision, north.model_uri) == (Decision.APPROVED, "models:/tiny-north@champion")
    assert exit_code(result) == 1
    assert not any(map(is_served, FAULTS))
    reasons = {engine.region: engine.reason for engine in plan().engines if engine.action == "build"}
    assert reasons.keys() == FAULTS.keys()
    assert reasons["segv"] == "the last run ended in EngineCrashed"

    # Again it says the same; once the cause is gone, the region completes.
    faulty.fault(f"kill on {HERE}").unlink()
    again = release(ADDRESS, regions=["kill", "segv", "north"])
    assert failures(again) == {"segv": told["segv"]}
    mended = next(row for row in again.rows if row.region == "kill")
    assert (mended.decision, mended.rebuilt) == (Decision.APPROVED, True)
