"""Build keys and plans: what is built, what is not, and why; without running anything."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from regiolect.contracts import Contract, SourceFiles, TargetMachine
from regiolect.errors import (
    ChangedMeanwhile,
    EmptyDataset,
    OrchestratorError,
    OtherVersion,
    UnknownRegion,
    UnknownTarget,
)
from regiolect.planning import (
    Installation,
    Plan,
    RegionRequest,
    answer,
    answer_of,
    as_signed,
    differences,
    finished,
    keep,
    on_this_machine,
    request_here,
    require_planned,
)
from regiolect.planning.request import parts_of, request_like
from regiolect.policy import PolicyBook
from regiolect.release.outcome import refuse
from regiolect.storage import LocalStore
from tests.elsewhere import ISA
from tests.flows.tiny_models import ADDRESS, CPU, GPU, PORTABLE, WORKSHOP, Workshop


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
    assert planned.summary() == "tiny: 2 to build, 0 to rebuild, 0 unchanged, 0 refused, 0 to retire"


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
        (lambda shop: shop.model.write_bytes(b"other weights"), "changed: the model (model.onnx)"),
        (
            lambda shop: shop.write_data("north", gate=420, selection=16, calibration=63),
            "changed: the region's data (calibration set, 64 -> 63 samples, gate set, 400 -> 420 samples)",
        ),
        (lambda shop: shop.write_policy("north", limit=4.0), "changed: the policy (accuracy.limit 5 -> 4)"),
        (lambda shop: shop.write_policy("north", approval={}), "changed: the policy (approval not stated -> stated)"),
        (
            lambda shop: (shop.write_data("north", gate=401), shop.write_policy("north", limit=4.0)),
            "changed: the region's data (gate set, 400 -> 401 samples), the policy (accuracy.limit 5 -> 4)",
        ),
        (lambda shop: shop.write_policy("north", {**CPU, "name": "other"}), "never built"),
    ],
    ids=["model", "data", "limit", "approval", "two", "target"],
)
def test_a_change_is_named_and_nothing_else_is(plan, build, workshop: Workshop, change, reason: str) -> None:
    for region in ("east", "north"):
        build(request_of(plan(region)))
    before = request_of(plan("north"))
    change(workshop)
    engine, *others = plan("north").engines
    assert [other.action for other in others] == (["retire"] if reason == "never built" else [])
    assert engine.reason == reason
    assert engine.action == ("build" if reason == "never built" else "rebuild")
    assert engine.request.build_key != before.build_key
    assert plan("east").engines[0].action == ("rebuild" if reason == "changed: the model (model.onnx)" else "reuse")


def test_where_an_older_record_does_not_tell_its_sets_none_is_said_to_have_changed(
    plan, build, workshop: Workshop, store: LocalStore
) -> None:
    request = request_of(plan("north"))
    build(request)
    digest = request.key_parts["data"]
    store.put_record("files", digest, SourceFiles.model_validate({"digest": digest, "files": {}}))
    workshop.write_data("north", gate=420)
    assert plan("north").engines[0].reason == "changed: the region's data"


NEW_WORDS = {"title": "The Far North", "reason": "A better reason for the very same rule."}


@pytest.mark.parametrize("words", [NEW_WORDS, {"approval": {"wait_minutes": 5}}, {"nightly": {"cron": "0 4 * * *"}}])
def test_what_neither_engine_nor_approval_depends_on_rebuilds_nothing(
    plan, build, workshop: Workshop, store: LocalStore, words
) -> None:
    workshop.write_policy("north", approval={})
    build(request_of(plan("north")))
    workshop.write_policy("north", **{"approval": {}} | words)
    (engine,) = plan("north").engines
    assert (engine.action, engine.differences) == ("reuse", ())
    told = finished(engine.request, store)
    assert told is not None and told.title == engine.title == words.get("title", "North")


def test_engines_of_the_same_demands_are_signed_with_the_same_words(plan, workshop: Workshop, store) -> None:
    first = request_of(plan("north")).policy
    assert as_signed(first, store) == first
    workshop.write_policy("north", **NEW_WORDS)
    assert as_signed(request_of(plan("north")).policy, store) == first
    workshop.write_policy("north", limit=4.0, **NEW_WORDS)
    assert as_signed(request_of(plan("north")).policy, store).title == "The Far North"


def test_a_key_of_a_policy_with_its_words_says_nothing_of_a_change_that_is_none(plan, store: LocalStore) -> None:
    """As keys were before words were left out of them."""
    request = request_of(plan("north"))
    before = {**request.key_parts, "policy": request.policy.digest(), "toolchain": "older"}
    assert [each.part for each in differences(before, request, store)] == ["toolchain"]


def test_an_engine_of_such_a_key_is_what_is_asked_for_as_long_as_its_policy_is_the_same(plan, build, workshop) -> None:
    request = request_of(plan("north"))
    old = request.built_with({"policy": request.policy.digest()})
    outcome = build(old)

    def key() -> str:
        now = request_of(plan("north"))
        return request_like(outcome, ADDRESS, now.policy, now.target, parts_of(now)).build_key

    assert key() == old.build_key
    workshop.write_policy("north", limit=4.0)
    assert key() not in (old.build_key, request.build_key)


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
    assert finished(request, store) is None
    assert plan("north").engines[0].reason == "its files are no longer in the store"


def test_a_failure_is_never_taken_for_finished(plan, store: LocalStore) -> None:
    request = request_of(plan("north"))
    keep(refuse(request, EmptyDataset("samples", "none", "bring some"), seconds=1.0), request, store)
    assert finished(request, store) is None
    assert plan("north").engines[0].reason == "the last run ended in EmptyDataset"


def test_another_builds_outcome_under_a_key_is_not_taken_for_its_own(plan, build, store: LocalStore) -> None:
    north, east = request_of(plan("north")), request_of(plan("east"))
    outcome = build(north)
    store.put_record("outcomes", east.build_key, outcome)
    assert finished(east, store) is None


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


def test_a_model_and_policies_that_share_no_region_are_told_both_lists_and_the_folder_that_was_meant(
    plan, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.policies.rename(workshop.folder / "forgotten")
    workshop.write_policy("west")
    monkeypatch.chdir(workshop.folder)
    with pytest.raises(
        UnknownRegion, match=r"policies: west; data: east, north.*--policies forgotten; for all commands"
    ):
        plan()


def test_regions_come_in_the_order_asked_for_and_once(plan) -> None:
    assert [engine.region for engine in plan("north", "east", "north").engines] == ["north", "east"]


def test_data_that_change_after_the_plan_are_noticed(plan, workshop: Workshop) -> None:
    request = request_of(plan("north"))
    require_planned(request, workshop.spec())
    workshop.write_data("north", seed=1)
    with pytest.raises(ChangedMeanwhile, match=r"another data .*gate set, still 400 samples"):
        require_planned(request, workshop.spec())


def test_a_plan_crosses_a_process_border(plan) -> None:
    planned: Contract = plan()
    assert Plan.model_validate_json(planned.model_dump_json()) == planned


# ------------------------------------------------------------------------------------ only some of the targets


def test_targets_that_are_not_named_are_left_alone_or_reused(workshop: Workshop, plan, build) -> None:
    workshop.add("wide", CPU, PORTABLE, GPU)
    portable = next(r for r in plan("wide").requests() if r.target.name == "portable")
    build(portable)
    planned = plan("wide", targets=["cpu"])
    assert {engine.target: engine.action for engine in planned.engines} == {
        "cpu": "build",
        "portable": "reuse",
        "gpu": "skip",
    }
    assert [request.target.name for request in planned.requests()] == ["cpu", "portable"]
    assert planned.summary() == "tiny: 1 to build, 0 to rebuild, 1 unchanged, 0 refused, 0 to retire, 1 left out"


def test_force_is_for_the_named_targets_alone(workshop: Workshop, plan, build) -> None:
    workshop.add("wide", CPU, PORTABLE)
    for request in plan("wide").requests():
        build(request)
    planned = plan("wide", targets=["cpu"], force=True)
    assert {engine.target: engine.action for engine in planned.engines} == {"cpu": "rebuild", "portable": "reuse"}


def test_a_target_that_no_policy_names_is_refused_with_the_nearest(plan) -> None:
    with pytest.raises(UnknownTarget, match="did you mean 'cpu'"):
        plan("north", targets=["cpus"])


# ----------------------------------------------------------------------------------- engines built elsewhere


def test_a_target_elsewhere_is_planned_as_it_was_last_seen(plan, build, store: LocalStore) -> None:
    planned = request_of(plan("north", on_pools=True))
    assert planned.key_parts["backend"] == "a machine not seen before"
    there = on_this_machine(planned, store)
    assert there.build_key != planned.build_key
    assert "openvino" in there.key_parts["backend"]
    build(there)
    (engine,) = plan("north", on_pools=True).engines
    assert engine.action == "reuse"
    assert engine.request == there
    assert request_of(plan("north")).build_key == there.build_key, "what was built here is known here as well"


def test_another_machine_behind_the_same_target_builds_anew_and_says_so(plan, build, store: LocalStore) -> None:
    first = request_of(plan("north"))
    build(on_this_machine(first, store))
    other = {"backend": f"backend openvino, isa {ISA}, version 1.0", "toolchain": first.key_parts["toolchain"]}
    seen = TargetMachine(target="cpu", backend="openvino", arithmetic=first.arithmetic, parts=other)
    store.put_record("machines", f"cpu--openvino--{first.arithmetic}", seen)
    (engine,) = plan("north", on_pools=True).engines
    assert engine.action == "rebuild"
    assert engine.reason.startswith("changed: the backend or its machine (")
    assert f"isa {ISA}" in engine.reason


def test_a_worker_with_another_version_of_the_code_refuses_work(plan, store: LocalStore) -> None:
    request = request_of(plan("north"))
    foreign = request.built_with({"regiolect": "sha256:" + "0" * 64})
    with pytest.raises(OtherVersion, match="same version of Regiolect on every worker"):
        on_this_machine(foreign, store)
    assert list(store.records("machines", TargetMachine)) == []


def _sent(request: RegionRequest, **changes: object) -> RegionRequest:
    """As it comes out of a flow run's parameters, or as somebody changed it there."""
    return RegionRequest.model_validate({**request.model_dump(mode="json"), **changes})


def test_an_order_is_the_same_after_its_way_through_a_server(plan, store: LocalStore) -> None:
    request = request_of(plan("north"))
    assert _sent(request) == request
    assert on_this_machine(_sent(request), store) == on_this_machine(request, store)


@pytest.mark.parametrize("what", ["policy", "target", "build key"])
def test_an_order_that_no_plan_made_is_refused_and_nothing_is_kept_of_it(plan, store: LocalStore, what: str) -> None:
    request = request_of(plan("north"))
    policy, target = request.policy.model_dump(mode="json"), request.target.model_dump(mode="json")
    changed = {
        "policy": {"policy": {**policy, "accuracy": {**policy["accuracy"], "limit": 50.0}}},
        "target": {"target": {**target, "backend": "onnxruntime"}},
        "build key": {"build_key": "sha256:" + "0" * 64},
    }[what]
    with pytest.raises(OrchestratorError, match=rf"found another {what}[^a-z].*regiolect run"):
        on_this_machine(_sent(request, **changed), store)
    assert list(store.records("machines", TargetMachine)) == []


def test_what_a_run_told_is_found_by_whoever_waits_for_it(plan, bundles, store: LocalStore) -> None:
    request = request_of(plan("north"))
    outcome = refuse(request, ChangedMeanwhile("one thing", "another", "run again"), seconds=1.0)
    assert answer_of("run-1", store) is None
    answer("run-1", outcome, request, store, built=True)
    told = answer_of("run-1", store)
    assert told is not None
    assert (told.outcome, told.built) == (outcome, True)
    assert plan("north").engines[0].reason == "the last run ended in ChangedMeanwhile"


def test_a_machine_makes_a_request_by_its_own_policy_and_data_without_a_plan(
    plan, workshop: Workshop, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSHOP, str(workshop.folder))
    here = Installation(PolicyBook(workshop.policies), lambda region: store)
    own = request_here(here, ADDRESS, "north", "cpu")
    assert on_this_machine(own, store) == request_of(plan("north"))
    with pytest.raises(UnknownTarget, match="did you mean 'cpu'"):
        request_here(here, ADDRESS, "north", "cpus")
    with pytest.raises(UnknownRegion):
        request_here(here, ADDRESS, "atlantis", "cpu")
