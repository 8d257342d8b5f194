"""Build keys and plans: what is built, what is not, and why; without running anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from regiolect.contracts import Contract, RegionOutcome
from regiolect.errors import ChangedMeanwhile, EmptyDataset, UnknownRegion
from regiolect.outcome import refuse
from regiolect.planning import Plan, RegionRequest, finished, keep, plan_release, require_planned
from regiolect.policy import PolicyBook
from regiolect.storage import LocalStore
from tests.flows.tiny_models import ADDRESS, CPU, GPU, PORTABLE, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Two regions; the model is a file that nobody reads here."""
    made = Workshop(tmp_path / "workshop")
    made.folder.mkdir()
    made.model.write_bytes(b"weights")
    made.add("east", precision="FP16")
    made.add("north")
    return made


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def plan(workshop: Workshop, store: LocalStore) -> Callable[..., Plan]:
    def planned(*regions: str, force: bool = False, of: Workshop = workshop) -> Plan:
        return plan_release(ADDRESS, of.spec(), PolicyBook(of.policies), lambda region: store, regions, force=force)

    return planned


@pytest.fixture
def build(bundles, store: LocalStore) -> Callable[[RegionRequest], RegionOutcome]:
    """Keeps an outcome as a build of the request would; its engine is only bytes."""
    bundles.store = store

    def built(request: RegionRequest) -> RegionOutcome:
        own = {"region": request.region, "target": request.target, "build_key": request.build_key}
        outcome: RegionOutcome = bundles.outcome(bundles.artifact())
        outcome = outcome.model_copy(update={**own, "key_parts": request.key_parts, "policy": request.policy.digest()})
        keep(outcome, request, store)
        return outcome

    return built


def request_of(plan: Plan) -> RegionRequest:
    (engine,) = plan.engines
    assert engine.request is not None
    return engine.request


def test_what_was_never_built_is_built(plan) -> None:
    planned = plan()
    assert [(engine.region, engine.action, engine.reason) for engine in planned.engines] == [
        ("east", "build", "never built"),
        ("north", "build", "never built"),
    ]
    assert planned.summary() == "tiny: 2 to build, 0 unchanged, 0 refused"


def test_what_did_not_change_is_reused(plan, build) -> None:
    request = request_of(plan("north"))
    build(request)
    (engine,) = plan("north").engines
    assert engine.action == "reuse"
    assert engine.request == request
    assert plan("north", force=True).engines[0].reason == "asked for with --force"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda shop: shop.model.write_bytes(b"other weights"), "changed: model"),
        (lambda shop: shop.write_data("north", seed=1), "changed: data"),
        (lambda shop: shop.write_policy("north", limit=4.0), "changed: policy"),
        (lambda shop: shop.write_policy("north", reason="A better reason for the same rule."), "changed: policy"),
        (
            lambda shop: (shop.write_data("north", seed=1), shop.write_policy("north", limit=4.0)),
            "changed: data, policy",
        ),
        (lambda shop: shop.write_policy("north", {**CPU, "name": "other"}), "never built"),
    ],
    ids=["model", "data", "limit", "reason", "two", "target"],
)
def test_a_change_is_named_and_nothing_else_is(plan, build, workshop: Workshop, change, reason: str) -> None:
    for region in ("east", "north"):
        build(request_of(plan(region)))
    before = request_of(plan("north"))
    change(workshop)
    (engine,) = plan("north").engines
    assert (engine.action, engine.reason) == ("build", reason)
    assert engine.request.build_key != before.build_key
    assert plan("east").engines[0].action == ("build" if reason == "changed: model" else "reuse")


def test_a_change_taken_back_finds_the_old_build(plan, build, workshop: Workshop) -> None:
    build(request_of(plan("north")))
    workshop.write_policy("north", limit=4.0)
    build(request_of(plan("north")))
    workshop.write_policy("north")
    assert plan("north").engines[0].action == "reuse"


def test_keys_do_not_depend_on_where_things_lie(plan, workshop: Workshop) -> None:
    moved = replace(workshop, folder=workshop.folder.parent / "another checkout")
    shutil.copytree(workshop.folder, moved.folder)
    assert request_of(plan("north", of=moved)) == request_of(plan("north"))


def test_each_target_is_an_engine_of_its_own(plan, workshop: Workshop) -> None:
    workshop.write_policy("north", CPU, PORTABLE, GPU)
    requests = plan("north").requests()
    assert [request.target.name for request in requests] == ["cpu", "portable", "gpu"]
    assert len({request.build_key for request in requests}) == 3


def test_an_engine_whose_files_are_gone_is_built_again(plan, build, store: LocalStore) -> None:
    request = request_of(plan("north"))
    outcome = build(request)
    store.path_of(outcome.engine.files[0].blob).unlink()
    assert finished(request.build_key, store) is None
    assert plan("north").engines[0].reason == "its files are no longer in the store"


def test_a_failure_is_never_taken_for_finished(plan, store: LocalStore) -> None:
    request = request_of(plan("north"))
    keep(refuse(request, EmptyDataset("samples", "none", "bring some"), seconds=1.0), request, store)
    assert finished(request.build_key, store) is None
    assert plan("north").engines[0].reason == "the last run ended in EmptyDataset"


def test_another_builds_outcome_under_a_key_is_not_taken_for_its_own(plan, build, store: LocalStore) -> None:
    north, east = request_of(plan("north")), request_of(plan("east"))
    outcome = build(north)
    store.put_record("outcomes", east.build_key, outcome)
    assert finished(east.build_key, store) is None


def test_an_unusable_region_is_refused_and_the_others_are_planned(plan, workshop: Workshop) -> None:
    (workshop.data("north") / "gate.npz").unlink()
    workshop.write_data("south")
    (workshop.policies / "south.yaml").write_text("{")
    planned = plan()
    assert [engine.action for engine in planned.engines] == ["build", "refuse", "refuse"]
    assert [engine.failure.kind for engine in planned.engines[1:]] == ["EmptyDataset", "InvalidPolicy"]
    assert planned.requests() == plan("east").requests()


def test_regions_without_data_or_policy_are_left_out_unless_they_are_asked_for(plan, workshop: Workshop) -> None:
    workshop.write_policy("dry")
    workshop.write_data("lawless")
    assert {engine.region for engine in plan().engines} == {"east", "north"}
    with pytest.raises(UnknownRegion, match="add data"):
        plan("dry")
    with pytest.raises(UnknownRegion, match=r"write .*lawless\.yaml"):
        plan("lawless")
    with pytest.raises(UnknownRegion, match="did you mean 'north'"):
        plan("east", "nort")


def test_a_model_and_policies_that_share_no_region_are_told_both_lists(plan, workshop: Workshop) -> None:
    shutil.rmtree(workshop.policies)
    workshop.write_policy("west")
    with pytest.raises(UnknownRegion, match=r"policies: west; data: east, north"):
        plan()


def test_regions_come_in_the_order_asked_for_and_once(plan) -> None:
    assert [engine.region for engine in plan("north", "east", "north").engines] == ["north", "east"]


def test_data_that_change_after_the_plan_are_noticed(plan, workshop: Workshop) -> None:
    request = request_of(plan("north"))
    require_planned(request, workshop.spec())
    workshop.write_data("north", seed=1)
    with pytest.raises(ChangedMeanwhile, match="another data"):
        require_planned(request, workshop.spec())


def test_a_plan_crosses_a_process_border(plan) -> None:
    planned: Contract = plan()
    assert Plan.model_validate_json(planned.model_dump_json()) == planned
