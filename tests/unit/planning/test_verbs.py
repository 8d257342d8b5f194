"""What a plan says of a region and a target besides build and reuse: rebuild, refuse, retire; and each one's cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regiolect.contracts import Decision
from regiolect.engines.catalog import backend
from regiolect.errors import BackendUnavailable, DeviceLost, StoreUnreachable
from regiolect.planning import LATEST, Installation, Plan, PlannedEngine, ReleaseRequest, has_work, keep, plan_release
from regiolect.planning.changes import policy_changes
from regiolect.policy import PolicyBook
from regiolect.release.outcome import refuse, rows_of
from regiolect.storage import LocalStore, RegionalStore, Store
from tests.flows.tiny_models import ADDRESS, CPU, GPU, PORTABLE, Workshop

Planned = Callable[..., Plan]


def actions(planned: Plan) -> dict[str, str]:
    return {f"{engine.region} {engine.target or ''}".strip(): engine.action for engine in planned.engines}


def only(planned: Plan) -> PlannedEngine:
    (engine,) = planned.engines
    return engine


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> str:
        raise BackendUnavailable("the library of backend 'openvino'", "it is not installed", "pip install it")

    monkeypatch.setattr(backend("openvino"), "version", version)


# ------------------------------------------------------------------------------------------------------- rebuild


def test_a_rebuild_tells_the_part_that_differs_and_what_is_there(plan: Planned, build, workshop: Workshop) -> None:
    old = build(only(plan("north")).request)
    workshop.write_policy("north", limit=4.0)
    engine = only(plan("north"))
    assert engine.action == "rebuild"
    (difference,) = engine.differences
    assert (difference.part, difference.before) == ("policy", old.key_parts["policy"])
    assert difference.now == engine.request.policy.demands_digest()
    assert difference.words == "the policy (accuracy.limit 5 -> 4)"
    assert (engine.kept, engine.decision) == (old.build_key, Decision.APPROVED)


def test_every_changed_field_of_a_policy_is_told(plan: Planned, build, workshop: Workshop) -> None:
    build(only(plan("north")).request)
    workshop.write_policy("north", precision="FP16", limit=4.5, forbidden=["INT8", "BF16"], latency={"p99_ms": 50})
    first, recipe, _ = only(plan("north")).differences
    assert first.words == (
        "the policy (precision INT8 -> FP16, forbidden none -> INT8 + BF16, accuracy.limit 5 -> 4.5, "
        "latency.p99_ms none -> 50)"
    )
    assert recipe.words == "the backend's recipe for the precision"


def test_a_policy_that_was_not_kept_is_told_without_its_fields(plan: Planned, build, workshop: Workshop, store) -> None:
    build(only(plan("north")).request)
    for record in (store.root / "records" / "policies").iterdir():
        record.unlink()
    workshop.write_policy("north", limit=4.0)
    assert only(plan("north")).reason == "changed: the policy"


def test_another_backend_behind_a_target_is_told_part_by_part(plan: Planned, build, workshop: Workshop) -> None:
    build(only(plan("north")).request)
    workshop.write_policy("north", PORTABLE | {"name": "cpu"})
    found = {each.part: each.words for each in only(plan("north")).differences}
    assert list(found) == ["policy", "recipe", "target", "backend"]
    assert found["target"] == "the target (cpu/openvino -> cpu/onnxruntime)"
    assert "backend openvino" in found["backend"] and "-> backend onnxruntime" in found["backend"]
    assert "machine" not in found["backend"].removeprefix("the backend or its machine"), "the machine is the same"


def test_lost_files_rebuild_without_a_difference(plan: Planned, build, store) -> None:
    outcome = build(only(plan("north")).request)
    store.path_of(outcome.engine.files[0].blob).unlink()
    engine = only(plan("north"))
    assert (engine.action, engine.differences) == ("rebuild", ())
    assert engine.reason == "its files are no longer in the store"


def test_after_a_failure_there_is_nothing_to_rebuild(plan: Planned, store: LocalStore) -> None:
    request = only(plan("north")).request
    keep(refuse(request, StoreUnreachable("an answer", "none", "start it"), seconds=1.0), request, store)
    assert only(plan("north")).action == "build"


# -------------------------------------------------------------------------------------------------------- refuse


@pytest.mark.parametrize("decision", [Decision.FAILED, Decision.INCONCLUSIVE])
def test_a_no_of_the_gate_stands_until_something_changes(plan: Planned, build, workshop: Workshop, decision) -> None:
    request = only(plan("north")).request
    build(request, decision)
    engine = only(plan("north"))
    assert (engine.action, engine.decision, engine.failure) == ("refuse", decision, None)
    assert engine.reason.startswith(f"{decision.value} in build ")
    assert engine.reason.endswith("nothing changed since: a test")
    assert plan("north").requests() == (request,), "a release still tells what came of it"
    workshop.write_policy("north", limit=6.0)
    assert only(plan("north")).action == "rebuild"


def test_what_waits_for_its_device_is_no_refusal(plan: Planned, build) -> None:
    build(only(plan("north")).request, Decision.NOT_ATTESTED)
    assert only(plan("north")).action == "reuse"


def test_a_backend_that_is_not_here_refuses_its_targets_alone(
    plan: Planned, workshop: Workshop, without_openvino: None
) -> None:
    workshop.add("wide", CPU, PORTABLE)
    planned = plan("wide")
    assert actions(planned) == {"wide cpu": "refuse", "wide portable": "build"}
    refused = planned.engines[0]
    assert refused.failure is not None and refused.failure.kind == "BackendUnavailable"
    assert [request.target.name for request in planned.requests()] == ["portable"]
    assert planned.untouched("wide") == ("cpu",), "a champion that serves it is not to be replaced"
    (row,) = rows_of(planned.model_copy(update={"engines": (refused,)}), {}, (), {})
    assert (row.target, row.decision) == ("cpu", Decision.REFUSED)


def test_a_device_that_does_not_answer_refuses_its_target_alone(plan: Planned, workshop: Workshop, monkeypatch) -> None:
    def lost() -> dict[str, str]:
        raise DeviceLost("an NVIDIA GPU that answers its driver", "GPU is lost", "look at `nvidia-smi`")

    workshop.add("wide", CPU, PORTABLE)
    monkeypatch.setattr(backend("openvino"), "fingerprint", lost)
    planned = plan("wide")
    assert actions(planned) == {"wide cpu": "refuse", "wide portable": "build"}
    failure = planned.engines[0].failure
    assert failure is not None
    assert (failure.kind, failure.remedy) == ("DeviceLost", "look at `nvidia-smi`")


def test_a_backend_that_is_not_here_and_not_asked_for_refuses_nothing(
    plan: Planned, workshop: Workshop, without_openvino: None
) -> None:
    workshop.add("wide", CPU, PORTABLE)
    assert actions(plan("wide", targets=["portable"])) == {"wide cpu": "skip", "wide portable": "build"}


# -------------------------------------------------------------------------------------------------------- retire


def test_a_target_that_the_policy_no_longer_names_is_retired(plan: Planned, build, workshop: Workshop) -> None:
    workshop.add("wide", CPU, PORTABLE)
    kept = {request.target.name: build(request) for request in plan("wide").requests()}
    workshop.write_policy("wide", PORTABLE)
    planned = plan("wide")
    assert actions(planned) == {"wide portable": "rebuild", "wide cpu": "retire"}
    retired = planned.engines[1]
    assert retired.reason.startswith("the policy of wide no longer names cpu (kept: records/latest/tiny--wide--cpu")
    assert (retired.kept, retired.request) == (kept["cpu"].build_key, None)
    assert planned.summary() == "tiny: 0 to build, 1 to rebuild, 0 unchanged, 0 refused, 1 to retire"
    assert rows_of(planned.model_copy(update={"engines": (retired,)}), {}, (), {}) == (), "a release leaves it alone"


def test_a_region_without_policy_or_data_is_retired(plan: Planned, build, workshop: Workshop) -> None:
    for region in ("dry", "lawless"):
        workshop.add(region)
        build(only(plan(region)).request)
    (workshop.policies / "lawless.yaml").unlink()
    for file in workshop.data("dry").iterdir():
        file.unlink()
    workshop.data("dry").rmdir()
    engines = [engine for engine in plan().engines if engine.action == "retire"]
    retired = {f"{engine.region} {engine.target}": engine.reason for engine in engines}
    assert {place: reason.split(" (")[0] for place, reason in retired.items()} == {
        "dry cpu": "the model has no data of dry any more",
        "lawless cpu": "no policy names lawless any more",
    }
    assert "retire" not in actions(plan("north")).values(), "nobody asked for them"


def test_a_policy_that_does_not_read_retires_nothing(plan: Planned, build, workshop: Workshop) -> None:
    build(only(plan("north")).request)
    (workshop.policies / "north.yaml").write_text("{")
    assert actions(plan("north")) == {"north": "refuse"}


def test_a_later_failure_does_not_hide_an_engine_to_retire(plan: Planned, build, workshop, store: LocalStore) -> None:
    first = only(plan("north")).request
    failed = StoreUnreachable("an answer", "none", "start it")
    build(first)
    keep(refuse(first.built_with({"data": "sha256:" + "1" * 64}), failed, seconds=1.0), first, store)
    (workshop.policies / "north.yaml").unlink()
    assert actions(plan()) == {"east cpu": "build", "north cpu": "retire"}


def test_where_there_never_was_an_engine_there_is_none_to_retire(plan: Planned, workshop, store: LocalStore) -> None:
    request = only(plan("north")).request
    keep(refuse(request, StoreUnreachable("an answer", "none", "start it"), seconds=1.0), request, store)
    (workshop.policies / "north.yaml").unlink()
    assert actions(plan()) == {"east cpu": "build"}


def test_a_record_that_no_longer_reads_is_still_there_to_be_retired(plan: Planned, build, workshop, store) -> None:
    build(only(plan("north")).request)
    (record,) = (store.root / "records" / LATEST).iterdir()
    record.write_text("{}")
    (workshop.policies / "north.yaml").unlink()
    retired = plan().engines[-1]
    assert (retired.region, retired.target, retired.action, retired.kept) == ("north", "cpu", "retire", None)


def test_other_models_engines_are_not_this_ones(plan: Planned, store: LocalStore, bundles) -> None:
    store.put_record(LATEST, "tiny-two--west--cpu", bundles.outcome(bundles.artifact()))
    assert "retire" not in actions(plan()).values()


@pytest.fixture
def regional(tmp_path: Path) -> Callable[[str], Store]:
    shared = LocalStore(tmp_path / "places" / "shared")
    return lambda region: RegionalStore(LocalStore(tmp_path / "places" / region), shared)


def test_stores_of_regions_that_were_given_up_are_looked_into(build, workshop: Workshop, regional, bundles) -> None:
    def planned(**how: Any) -> Plan:
        here = Installation(PolicyBook(workshop.policies), regional, **how)
        return plan_release(ReleaseRequest(address=ADDRESS), workshop.spec(), here)

    for request in planned().requests():
        keep(build(request), request, regional(request.region))
    (workshop.policies / "north.yaml").unlink()
    assert actions(planned()) == {"east cpu": "rebuild"}, "its blobs lie elsewhere"
    assert actions(planned(elsewhere=regional))["north cpu"] == "retire"
    assert "north cpu" not in actions(planned(elsewhere=lambda region: None))

    def closed(region: str) -> Store:
        raise StoreUnreachable("an answer", "none", "start it")

    told = planned(elsewhere=closed).engines[-1]
    assert (told.place, told.action, told.failure) == ("north", "skip", None)
    assert told.reason == "not looked into for engines to retire: StoreUnreachable: none"


# ---------------------------------------------------------------------------------------------------------- work


def test_only_what_is_to_be_done_is_work(plan: Planned, build, workshop: Workshop) -> None:
    assert has_work(plan("north").engines)
    build(only(plan("north")).request)
    assert not has_work(plan("north").engines)
    workshop.write_policy("north", {**GPU, "name": "gpu"})
    build(plan("north").engines[0].request, Decision.FAILED)
    planned = plan("north")
    assert actions(planned) == {"north gpu": "refuse", "north cpu": "retire"}
    assert has_work(planned.engines)
    assert not has_work(planned.engines[:1])


def test_an_empty_list_is_told_from_none_at_all() -> None:
    before = PolicyBook().load("de")
    now = before.model_copy(update={"repair": before.repair.model_copy(update={"fallback": ()})})
    without = before.model_copy(update={"repair": before.repair.model_copy(update={"fallback": None})})
    assert list(policy_changes(without, now)) == ["repair.fallback not stated -> empty"]
