"""Engines of several classes of arithmetic for one target: what is asked for, carried over, left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regiolect.contracts import Arithmetic, Decision, RegionAnswer, Split
from regiolect.engines import catalog
from regiolect.errors import ForeignArithmetic, NoWorker
from regiolect.integrity import digest_of
from regiolect.planning import LATEST, OUTCOMES, Plan, PlannedEngine, RegionRequest, keep, on_this_machine, settle
from regiolect.release.outcome import refuse
from regiolect.storage import LocalStore
from tests.flows.tiny_models import Workshop

SATURATING, VNNI, AMX = Arithmetic.SATURATING, Arithmetic.VNNI, Arithmetic.AMX
Planned = Callable[..., Plan]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this machine one of a class, and the processor one that tells these facts."""

    def of(arithmetic: Arithmetic | None, **facts: str) -> None:
        chosen = catalog.backend("openvino")
        monkeypatch.setattr(chosen, "arithmetic", lambda: arithmetic)
        told = {**type(chosen).fingerprint(chosen), **facts}
        monkeypatch.setattr(chosen, "fingerprint", lambda: told)

    return of


@pytest.fixture
def machines(plan: Planned, build, store: LocalStore, on) -> Callable[..., dict[Arithmetic, RegionRequest]]:
    """Has a build made on a machine of each of these classes, as workers of one pool would."""

    def seen(*classes: Arithmetic) -> dict[Arithmetic, RegionRequest]:
        found = {}
        for arithmetic in classes:
            on(arithmetic)
            found[arithmetic] = on_this_machine(plan("north").engines[0].request, store)
            build(found[arithmetic])
        return found

    return seen


def _darker(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.maximum(values, 1) - 1 for name, values in inputs.items()}


def actions(planned: Plan) -> dict[Arithmetic | None, str]:
    return {engine.arithmetic: engine.action for engine in planned.engines}


def of_class(planned: Plan, arithmetic: Arithmetic) -> PlannedEngine:
    return next(engine for engine in planned.engines if engine.arithmetic is arithmetic)


def test_the_class_stands_in_the_key_for_the_processors_name_and_flags(plan: Planned, build, on) -> None:
    on(VNNI, cpu="Intel Xeon 6338", isa="avx2 avx512f avx512_vnni")
    request = build(plan("north").engines[0].request) and plan("north").engines[0].request
    assert request.key_parts["arithmetic"] == "vnni"
    assert "Xeon" not in str(request.key_parts)
    on(VNNI, cpu="AMD EPYC 9354", isa="avx2 avx512f avx512_vnni avx512_bf16")
    assert actions(plan("north")) == {VNNI: "reuse"}


def test_another_class_is_another_engine_and_the_first_is_carried_over(plan: Planned, build, on) -> None:
    on(VNNI)
    first = build(plan("north").engines[0].request)
    on(AMX)
    planned = plan("north")
    assert actions(planned) == {AMX: "build", VNNI: "carry"}
    assert of_class(planned, VNNI).kept == first.build_key
    assert "no machine of class vnni is there" in of_class(planned, VNNI).reason
    build(of_class(planned, AMX).request)
    # Neither machine rebuilds what the other one did, however often they take turns.
    assert actions(plan("north")) == {AMX: "reuse", VNNI: "carry"}
    on(VNNI)
    assert actions(plan("north")) == {VNNI: "reuse", AMX: "carry"}
    assert (
        plan("north").summary() == "tiny: 0 to build, 0 to rebuild, 1 unchanged, 1 carried over, 0 refused, 0 to retire"
    )


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_wider_engines_are_of_no_class(plan: Planned, build, on, workshop: Workshop, precision: str) -> None:
    workshop.write_policy("north", precision=precision)
    on(VNNI)
    build(plan("north").engines[0].request)
    on(SATURATING, cpu="Intel Core i7-4770", isa="avx2")
    assert actions(plan("north")) == {None: "reuse"}


@pytest.mark.parametrize("change", ["policy", "data"])
def test_where_what_was_approved_changed_a_class_without_a_machine_is_left_out_and_told(
    plan: Planned, build, on, workshop: Workshop, change: str
) -> None:
    on(VNNI)
    build(plan("north").engines[0].request)
    on(AMX)
    build(plan("north").engines[0].request)
    if change == "policy":
        workshop.write_policy("north", limit=4.0)
    else:
        workshop.change("north", Split.GATE, lambda samples: replace(samples, inputs=_darker(samples.inputs)))
    planned = plan("north")
    assert actions(planned) == {AMX: "rebuild", VNNI: "drop"}
    assert "the next version is without it: no machine of class vnni is there (changed: " in planned.engines[1].reason
    assert planned.untouched("north") == (), "the new version is champion all the same"
    assert actions(plan("north", targets=["cpu"])) == {AMX: "rebuild", VNNI: "drop"}


def test_new_code_and_libraries_leave_what_no_machine_is_there_for_as_it_is(
    plan: Planned, build, on, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(VNNI)
    build(plan("north").engines[0].request)
    on(AMX)
    build(plan("north").engines[0].request)
    monkeypatch.setattr("regiolect.planning.request.toolchain", lambda: "numpy 99.0")
    assert actions(plan("north")) == {AMX: "rebuild", VNNI: "carry"}


def test_what_the_gate_refused_is_not_carried_over(plan: Planned, build, on) -> None:
    on(VNNI)
    build(plan("north").engines[0].request, Decision.FAILED)
    on(AMX)
    planned = plan("north")
    assert actions(planned) == {AMX: "build", VNNI: "drop"}
    assert "failed in its last build" in planned.engines[1].reason


def test_a_class_that_the_policy_does_not_take_is_refused_before_anything_is_built(
    plan: Planned, on, build, store: LocalStore, workshop: Workshop
) -> None:
    on(SATURATING)
    build(plan("north").engines[0].request)
    target = {"name": "cpu", "backend": "openvino", "arithmetic": ["vnni", "amx"]}
    workshop.write_policy("north", target)
    planned = plan("north")
    assert [engine.action for engine in planned.engines] == ["refuse", "retire"]
    failure = planned.engines[0].failure
    assert failure is not None
    assert (failure.kind, failure.expected, failure.found) == (
        "ForeignArithmetic",
        "a machine of class vnni or amx for INT8 engines of 'cpu'",
        "one of class saturating",
    )
    assert "add saturating to `arithmetic` of target cpu" in failure.remedy
    assert planned.engines[1].reason.startswith("the policy of north no longer takes class saturating for cpu")
    on(VNNI)
    assert actions(plan("north")) == {VNNI: "build", SATURATING: "retire"}
    workshop.write_policy("north", target, precision="FP16")
    on(SATURATING)
    assert plan("north").engines[0].action == "build", "only INT8 is of a class"


def test_a_processor_that_does_not_tell_its_class_builds_no_int8(plan: Planned, on) -> None:
    on(None)
    (engine,) = plan("north").engines
    assert engine.failure is not None
    assert (engine.action, engine.failure.found) == ("refuse", "a processor that does not tell its class")


# ------------------------------------------------------------------------------------------ with work pools


def test_a_pool_is_planned_for_the_classes_that_were_seen_there(plan: Planned, machines, on) -> None:
    machines(VNNI, AMX)
    on(SATURATING)
    assert actions(plan("north", on_pools=True)) == {VNNI: "reuse", AMX: "reuse"}, "whoever plans builds nothing"


def test_both_classes_of_a_pool_are_built_anew_when_the_policy_changes(plan: Planned, machines, workshop) -> None:
    machines(VNNI, AMX)
    workshop.write_policy("north", limit=4.0)
    assert actions(plan("north", on_pools=True)) == {VNNI: "rebuild", AMX: "rebuild"}
    workshop.write_policy("north", {"name": "cpu", "backend": "openvino", "arithmetic": ["amx"]}, limit=4.0)
    assert actions(plan("north", on_pools=True)) == {AMX: "rebuild", VNNI: "retire"}


def test_a_machine_of_another_class_gives_the_work_back_and_is_known_from_then_on(
    plan: Planned, machines, store: LocalStore, on
) -> None:
    machines(VNNI)
    (planned,) = plan("north", on_pools=True).engines
    on(AMX)
    with pytest.raises(ForeignArithmetic, match="one of class amx"):
        on_this_machine(planned.request, store)
    assert actions(plan("north", on_pools=True)) == {VNNI: "reuse", AMX: "build"}


def nobody(request: RegionRequest, error: type[NoWorker | ForeignArithmetic] = NoWorker) -> RegionAnswer:
    return RegionAnswer(outcome=refuse(request, error("a worker", "none", "start one"), seconds=1.0), built=False)


@pytest.mark.parametrize("error", [NoWorker, ForeignArithmetic])
def test_a_class_that_no_worker_came_for_is_left_out_or_carried_over(
    plan: Planned, machines, build, store: LocalStore, workshop: Workshop, error, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = machines(VNNI, AMX)
    monkeypatch.setattr("regiolect.planning.request.own_code", lambda: "sha256:" + "7" * 64)
    planned = plan("north", on_pools=True)
    vnni, amx = (of_class(planned, each).request for each in (VNNI, AMX))
    told = {vnni.build_key: RegionAnswer(outcome=build(vnni), built=True), amx.build_key: nobody(amx, error)}
    settled = settle(planned, told, lambda region: store)
    assert actions(settled.plan) == {VNNI: "rebuild", AMX: "carry"}
    assert settled.outcomes.keys() == {vnni.build_key, kept[AMX].build_key}
    assert (settled.built, settled.left_out()) == ({vnni.build_key}, ())

    workshop.write_policy("north", limit=4.0)
    planned = plan("north", on_pools=True)
    vnni, amx = (of_class(planned, each).request for each in (VNNI, AMX))
    told = {vnni.build_key: RegionAnswer(outcome=build(vnni), built=True), amx.build_key: nobody(amx, error)}
    settled = settle(planned, told, lambda region: store)
    assert actions(settled.plan) == {VNNI: "rebuild", AMX: "drop"}
    assert settled.outcomes.keys() == {vnni.build_key}
    (left_out,) = settled.left_out()
    assert left_out.startswith("north cpu (amx): the next version is without it: no machine of class amx is there")


def test_where_no_class_had_a_worker_the_failure_is_the_outcome(plan: Planned, machines, workshop, store) -> None:
    machines(VNNI, AMX)
    workshop.write_policy("north", limit=4.0)
    planned = plan("north", on_pools=True)
    settled = settle(planned, {each.build_key: nobody(each) for each in planned.requests()}, lambda region: store)
    assert settled.plan == planned
    assert {outcome.failure.kind for outcome in settled.outcomes.values() if outcome.failure} == {"NoWorker"}


def test_a_target_of_which_no_machine_was_seen_is_asked_for_once(plan: Planned, build, store: LocalStore, on) -> None:
    planned = plan("north", on_pools=True)
    (request,) = planned.requests()
    assert (request.arithmetic, request.key_parts["arithmetic"]) == (None, "a machine not seen before")
    on(AMX)
    built = build(on_this_machine(request, store))
    told = {request.build_key: RegionAnswer(outcome=built, built=True)}
    assert actions(settle(planned, told, lambda region: store).plan) == {AMX: "build"}


def test_an_engine_from_before_there_were_classes_is_what_its_class_had_last(
    plan: Planned, build, store: LocalStore, on
) -> None:
    on(VNNI)
    request = plan("north").engines[0].request
    outcome = build(request)
    engine = outcome.engine.model_copy(update={"fingerprint": {"machine": "x86_64", "isa": "avx2 avx512_vnni"}})
    parts = {name: told for name, told in request.key_parts.items() if name != "arithmetic"}
    older = {"arithmetic": None, "engine": engine, "key_parts": parts, "build_key": digest_of(parts)}
    for kind in (LATEST, OUTCOMES):
        for file in (store.root / "records" / kind).iterdir():
            file.unlink()
    keep(outcome.model_copy(update=older), request.model_copy(update={"arithmetic": None}), store)
    (found,) = plan("north").engines
    assert (found.action, found.reason) == ("rebuild", "changed: the class of arithmetic (none -> vnni)")
    on(AMX)
    assert [each.reason for each in plan("north").engines] == ["never built"]
