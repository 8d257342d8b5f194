"""What a change of policies would do to engines: judged from their results, never from what is written of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from regiolect.contracts import (
    Attestation,
    CalibrationMethod,
    CalibrationTable,
    ChosenGraph,
    Decision,
    Execution,
    GraphChoice,
    Precision,
    RegionOutcome,
    RegisteredEngine,
    Seal,
    Target,
    TensorRange,
)
from regiolect.errors import RegistryError, StoreUnreachable
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.integrity import digest_bytes, digest_of
from regiolect.planning import LATEST, OUTCOMES, class_parts, target_parts
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.policy.difference import differences
from regiolect.policy_review import EngineEffect, Kept, effects, kept_engines

SAMPLES = 3000
POLICY: dict[str, Any] = {
    "region": "eu",
    "title": "Europe",
    "reason": "A policy that exists for the purpose of a test.",
    "precision": "INT8",
    "accuracy": {"metric": "accuracy", "limit": 1.0},
    "batch": {"min": 1, "opt": 1, "max": 4},
    "targets": [{"name": "cpu", "backend": "onnxruntime"}],
}


class Project:
    """One region's policies, old and new, and engines whose results are real: 10 answers of 3,000 are lost."""

    def __init__(self, folder: Path, bundles: Any) -> None:
        self.folder, self.bundles, self.store = folder, bundles, bundles.store
        self.champions: dict[str, RegisteredEngine] = {}

    def book(self, name: str, **stated: Any) -> PolicyBook:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "eu.yaml").write_text(yaml.safe_dump(POLICY | stated))
        return PolicyBook(folder)

    def policy(self, **stated: Any) -> RegionPolicy:
        return self.book("any", **stated).load("eu")

    def built(
        self, policy: RegionPolicy | None = None, target: str = "cpu", lost: int = 10, **parts: Any
    ) -> RegionOutcome:
        """Keep an engine as a release under a policy would."""
        policy = policy or self.policy()
        where = Target(name=target, backend="onnxruntime")
        asked = {"policy": policy.demands_digest(), **target_parts(where), **class_parts(policy, where, None)}
        key_parts = {"model": "m", **asked}
        outcome: RegionOutcome = self.bundles.outcome(self.bundles.artifact(target=target))
        assert outcome.engine is not None and outcome.evaluation is not None
        key = digest_of(key_parts)
        request = outcome.engine.request.model_copy(update={"build_key": key, "precision": Precision.INT8})
        engine = outcome.engine.model_copy(update={"request": request})
        rows = PairedResults(
            sample_ids=tuple(map(str, range(SAMPLES))),
            reference=[1.0] * SAMPLES,
            engine=[0.0] * lost + [1.0] * (SAMPLES - lost),
        )
        figures = {
            "build_key": key,
            "samples": SAMPLES,
            "reference_score": 1.0,
            "engine_score": float(rows.engine.mean()),
            "results": self.store.put_bytes(rows.to_csv()),
        }
        evaluation = outcome.evaluation.model_copy(update=figures)
        attestation = Attestation(
            graph={Precision.INT8: 2}, executed={Execution.INT8: 2, Execution.FP32: 1}, source="a test"
        )
        gate = decide_gate(engine, policy, attestation, evaluation, rows)
        outcome = outcome.model_copy(
            update={
                "engine": engine,
                "evaluation": evaluation,
                "attestation": attestation,
                "gate": gate,
                "decision": gate.verdict,
                "policy": policy.digest(),
                "build_key": key,
                "key_parts": key_parts,
                **parts,
            }
        )
        self.keep(outcome)
        return outcome

    def keep(self, outcome: RegionOutcome) -> None:
        self.store.put_record(LATEST, f"{outcome.model}--{outcome.region}--{outcome.target.name}", outcome)
        self.store.put_record(OUTCOMES, outcome.build_key, outcome)

    def serve(self, outcome: RegionOutcome) -> None:
        self.champions["tiny-eu"] = RegisteredEngine(
            name="tiny-eu",
            version=3,
            uri="models:/tiny-eu/3",
            champion=True,
            targets=(outcome.target.name,),
            build_keys=(outcome.build_key,),
        )

    def kept(self) -> Kept:
        return kept_engines(["eu"], lambda region: self.store, lambda: self.champions)

    def effects(self, **stated: Any) -> tuple[EngineEffect, ...]:
        """What a change from POLICY does."""
        old, new = self.book("old"), self.book("new", **stated)
        changes = differences(old, new, ["eu"])
        return effects(changes, {"eu": new.load("eu")}, self.kept(), lambda region: self.store)

    def effect(self, **stated: Any) -> EngineEffect:
        (effect,) = self.effects(**stated)
        return effect


@pytest.fixture
def project(tmp_path: Path, bundles: Any) -> Project:
    return Project(tmp_path, bundles)


def accuracy(limit: float, **more: Any) -> Mapping[str, Any]:
    return {"accuracy": {"metric": "accuracy", "limit": limit, **more}}


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (accuracy(0.2), "loss 0.33 points (10 answers lost, 0 gained of 3,000), "),
        (accuracy(0.9, confidence=0.9), None),
        (accuracy(0.6, confidence=0.9999), "at most 0.92 at 99.99 %, limit 0.6"),
        ({"samples": {"gate": 4000}}, "3,000 in the gate set, the policy asks for at least 4,000"),
        ({"precision": "FP16"}, "the graph holds 2 compute nodes in INT8, coarser than the policy's FP16"),
        ({"precision": "FP32", "forbidden": ["INT8"]}, "forbidden in region 'eu'"),
        ({"latency": {"p99_ms": 1.0}}, "latency: p99 1.20 ms"),
        ({"latency": {"p99_ms": 50.0}}, "no bound at 95 %"),
        ({"forbidden": ["BF16"]}, None),
        ({"approval": {}}, None),
    ],
)
def test_an_engine_is_refused_when_its_results_do_not_hold_under_the_new_policy_else_rebuilt(
    project: Project, stated: dict[str, Any], told: str | None
) -> None:
    outcome = project.built()
    assert outcome.decision is Decision.APPROVED
    effect = project.effect(**stated)
    assert (effect.model, effect.region, effect.target, effect.build_key) == ("tiny", "eu", "cpu", outcome.build_key)
    if told is None:
        assert effect.action == "rebuild"
        assert f"changed: policy ({next(iter(stated))}" in effect.reason
        assert "still approved: accuracy: loss 0.33 points" in effect.reason
    else:
        assert effect.action == "refuse"
        assert told in effect.reason


def test_what_a_record_says_of_itself_is_not_believed(project: Project) -> None:
    outcome = project.built(lost=300)
    assert outcome.decision is Decision.FAILED
    rosy = project.built().gate
    project.keep(outcome.model_copy(update={"decision": Decision.APPROVED, "gate": rosy}))
    effect = project.effect(**accuracy(0.9))
    assert effect.action == "refuse"
    assert "(300 answers lost" in effect.reason


def test_results_that_were_changed_or_lost_hold_for_nothing(project: Project) -> None:
    outcome = project.built()
    assert outcome.evaluation is not None
    path = project.store.path_of(outcome.evaluation.results)
    path.write_bytes(path.read_bytes().replace(b"0,1,0", b"0,1,1"))
    assert project.effect(**accuracy(0.9)).reason.startswith("IntegrityError")
    path.unlink()
    effect = project.effect(**accuracy(0.9))
    assert (effect.action, effect.reason.split(":")[0]) == ("refuse", "ContentMissing")


def test_an_engine_of_a_wider_precision_that_may_not_be_shipped_any_more_is_refused(project: Project) -> None:
    outcome = project.built()
    assert outcome.engine is not None
    wider = outcome.engine.request.model_copy(update={"precision": Precision.FP16})
    attested = Attestation(graph={Precision.FP16: 2}, executed={Execution.FP32: 2}, source="a test")
    project.keep(
        outcome.model_copy(
            update={"engine": outcome.engine.model_copy(update={"request": wider}), "attestation": attested}
        )
    )
    assert project.effect(**accuracy(0.9)).action == "rebuild"
    effect = project.effect(repair={"fallback": ["FP32"]})
    assert (effect.action, effect.reason) == ("refuse", "precision: a graph of FP16, the policy allows INT8, FP32")


def test_another_metric_is_judged_afresh(project: Project) -> None:
    project.built()
    effect = project.effect(accuracy={"metric": "f1", "limit": 1.0})
    assert effect.action == "rebuild"
    assert "its results are of accuracy, so the new engine is judged afresh" in effect.reason


@pytest.mark.parametrize(
    ("days", "said"), [(40, "40 days old"), (-40, "dated 40 days ahead of the clock")], ids=["old", "ahead"]
)
def test_a_calibration_that_is_too_old_is_told(project: Project, days: int, said: str) -> None:
    seal = Seal(
        region="eu",
        model=digest_bytes(b"m"),
        preprocessing=digest_bytes(b"p"),
        dataset=digest_bytes(b"d"),
        sample_ids=("a",),
        checks=digest_bytes(b"c"),
        made=datetime.now(UTC) - timedelta(days=days),
    )
    ranges = {"x": TensorRange(threshold=1, minimum=-1, maximum=1)}
    table = CalibrationTable(seal=seal, method=CalibrationMethod.ENTROPY, tensors=ranges)
    choice = GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY)
    project.built(chosen=ChosenGraph(choice=choice, table=table))
    effect = project.effect(calibration={"max_age_days": 30})
    assert effect.action == "rebuild"
    assert f"its calibration is {said}, the policy allows 30" in effect.reason
    assert "still approved" in project.effect(calibration={"max_age_days": 60}).reason


def test_what_is_no_longer_named_is_retired_and_what_is_new_is_built(project: Project) -> None:
    project.built()
    retired, renamed = project.effects(targets=[{"name": "edge", "backend": "onnxruntime"}])
    assert (retired.action, retired.target) == ("retire", "cpu")
    assert (renamed.action, renamed.target, renamed.reason) == ("build", "edge", "never built")
    other = project.folder / "empty"
    other.mkdir()
    (other / "na.yaml").write_text(yaml.safe_dump(POLICY | {"region": "na"}))
    changes = differences(project.book("old"), PolicyBook(other), ["eu"])
    (effect,) = effects(changes, {}, project.kept(), lambda region: project.store)
    assert (effect.action, effect.reason) == ("retire", "no policy names region eu any more")


def test_another_backend_is_another_engine(project: Project) -> None:
    project.built()
    effect = project.effect(targets=[{"name": "cpu", "backend": "openvino"}])
    assert effect.action == "rebuild"
    assert "target (onnxruntime -> openvino)" in effect.reason


def test_what_was_built_under_the_new_policy_is_left_alone(project: Project) -> None:
    project.built(project.policy(**accuracy(0.9)))
    effect = project.effect(**accuracy(0.9))
    assert (effect.action, effect.reason) == ("nothing", "built under the new policy already")
    project.built()
    effect = project.effect(**accuracy(0.9))
    assert effect.action == "nothing"
    assert effect.reason.startswith("built under this very policy before, and reused")


def test_words_beside_another_demand_are_not_among_what_changes_in_the_key(project: Project) -> None:
    project.built()
    effect = project.effect(**accuracy(0.9), title="The Continent")
    assert effect.reason.startswith("changed: policy (accuracy.limit); still approved")


def test_a_policy_that_is_neither_of_the_two_is_told(project: Project) -> None:
    project.built(project.policy(**accuracy(3.0)))
    assert "built under neither of the two" in project.effect(**accuracy(0.9)).reason


def test_what_was_never_approved_is_only_built_again(project: Project) -> None:
    project.built(lost=300)
    effect = project.effect(**accuracy(0.9))
    assert effect.action == "rebuild"
    assert effect.reason.endswith("the last run ended failed")


def test_what_is_served_counts_and_not_what_was_made_last(project: Project) -> None:
    served = project.built()
    project.serve(served)
    project.built(project.policy(**accuracy(3.0)), lost=300)
    effect = project.effect(**accuracy(0.2))
    assert (effect.action, effect.served, effect.build_key) == ("refuse", "models:/tiny-eu/3", served.build_key)


def test_what_is_served_and_not_in_the_store_is_never_called_fine(project: Project) -> None:
    outcome = project.built()
    other = outcome.model_copy(update={"build_key": digest_bytes(b"elsewhere")})
    project.serve(other)
    effect = project.effect(**accuracy(0.9))
    assert (effect.action, effect.served) == ("unknown", "models:/tiny-eu/3")


def test_a_champion_whose_record_is_another_models_is_not_believed(project: Project) -> None:
    outcome = project.built()
    project.store.put_record(OUTCOMES, outcome.build_key, outcome.model_copy(update={"model": "other"}))
    project.serve(outcome)
    assert project.effect(**accuracy(0.9)).action == "unknown"


def test_a_store_or_registry_that_cannot_be_read_is_told_and_the_rest_goes_on(project: Project) -> None:
    project.built()

    def unreachable(*_: Any) -> Any:
        raise StoreUnreachable("a store", "nothing answers", "start it")

    def unreadable() -> Any:
        raise RegistryError("a registry", "nothing answers", "start it")

    assert kept_engines(["eu"], unreachable, dict).notes == [
        "the store of eu was not read (StoreUnreachable: nothing answers)"
    ]
    kept = kept_engines(["eu"], lambda region: project.store, unreadable)
    assert len(kept.outcomes) == 1
    assert kept.notes == ["what is served is not known: the registry was not read (nothing answers)"]


def test_without_engines_that_is_said(project: Project) -> None:
    (note,) = project.kept().notes
    assert "only the policies' own differences are told" in note
