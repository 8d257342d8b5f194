"""A region's new engines beside those that it serves: compared on what consumers load, or held back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regiolect.contracts import Arithmetic, Blob, Decision, Published, RegionOutcome, Target
from regiolect.data import Samples, samples_to_bytes
from regiolect.evaluate.metrics import top1
from regiolect.evaluate.results import PairedResults
from regiolect.integrity import digest_bytes
from regiolect.model import ModelSpec
from regiolect.registry import CHALLENGER, CHAMPION, Registry
from regiolect.registry.tags import notes
from regiolect.release.champion import run_again
from regiolect.release.publish import publish

pytestmark = pytest.mark.slow

COUNT = 400
IDS = tuple(f"s{number:03d}" for number in range(COUNT))


def answers(wrong: int) -> PairedResults:
    """Reference and engine agree; the first `wrong` samples are wrong under both."""
    right = (np.arange(COUNT) >= wrong).astype(float)
    return PairedResults(IDS, right, right)


@pytest.fixture(scope="module")
def registry(registry_home: Path) -> Registry:
    """Each test has a region of its own."""
    return Registry(f"sqlite:///{registry_home / 'mlflow.db'}", registry_home / "artifacts")


@pytest.fixture
def release(registry, bundles) -> Callable[..., Published]:
    """Publishes one engine, of which so many answers are wrong; `limit` is that of the policy, in points, `beside`
    another engine of the same version, by what the first is given."""

    def call(
        region: str,
        wrong: int = 0,
        *,
        limit: float = 5.0,
        again: Any = None,
        beside: Any = None,
        target: str = "cpu",
        arithmetic: Arithmetic | None = None,
        content: bytes = b"engine",
        backend: str = "onnxruntime",
        **changes: Any,
    ) -> Published:
        accuracy = bundles.policy.accuracy.model_copy(update={"limit": limit})
        names = {"targets": (Target(name=target, backend=backend),), "accuracy": accuracy}
        here = dataclasses.replace(
            bundles, policy=bundles.policy.model_copy(update=names), results=answers(wrong), **changes
        )

        def outcome(arithmetic: Arithmetic | None, content: bytes) -> RegionOutcome:
            artifact = here.artifact(region, target, backend, content)
            request = artifact.request.model_copy(update={"arithmetic": arithmetic})
            made = here.outcome(artifact.model_copy(update={"request": request}))
            return made.model_copy(update={"arithmetic": arithmetic})

        outcomes = [outcome(arithmetic, content), *([] if beside is None else [outcome(**beside)])]
        return publish(here.exported(), outcomes, here.policy_of(region), here.store, registry, again or _never)

    return call


def _never(*compared: object) -> Blob:
    raise AssertionError("the served engine is run again")


def _versions(registry: Registry, region: str) -> dict[str, int]:
    found = {alias: registry.by_alias(f"tiny-{region}", alias) for alias in (CHAMPION, CHALLENGER)}
    return {alias: version.version for alias, version in found.items() if version is not None}


@pytest.mark.parametrize(
    ("wrong", "outcome", "held"),
    [
        (0, Decision.APPROVED, None),
        (8, Decision.APPROVED, None),
        (20, Decision.INCONCLUSIVE, "WorseThanChampion"),
        (80, Decision.FAILED, "WorseThanChampion"),
    ],
)
def test_what_is_not_surely_as_good_is_held_back(registry, release, wrong, outcome, held) -> None:
    region = f"wrong-{outcome.value}-{'x' * (wrong + 1)}"[:40].rstrip("-")
    release(region)
    made = release(region, wrong, content=b"new")
    (beside,) = made.comparisons
    assert (beside.verdict, beside.again, beside.limit) == (outcome, False, 5.0)
    assert beside.loss == pytest.approx(wrong / 4)
    assert (made.held.kind if made.held else None) == held
    assert _versions(registry, region) == ({CHAMPION: 2} if held is None else {CHAMPION: 1, CHALLENGER: 2})


def test_a_better_engine_replaces_a_worse_one_and_a_limit_of_its_own_is_kept_to(registry, bundles, release) -> None:
    release("limits", 40)
    assert release("limits", 0, content=b"better").champion.version == 2
    accuracy = bundles.policy.accuracy.model_copy(update={"regression": 30.0})
    loose = dataclasses.replace(bundles, policy=bundles.policy.model_copy(update={"accuracy": accuracy}))
    here = dataclasses.replace(loose, results=answers(80))
    outcome = here.outcome(here.artifact("limits", content=b"looser"))
    made = publish(here.exported(), [outcome], here.policy_of("limits"), here.store, registry, _never)
    assert (made.comparisons[0].limit, made.held) == (30.0, None)


@pytest.mark.parametrize(
    ("served", "new"),
    [
        ({"arithmetic": Arithmetic.VNNI}, {"arithmetic": Arithmetic.SATURATING}),
        ({"target": "cpu"}, {"target": "cpu-two"}),
    ],
)
def test_a_worse_engine_in_another_place_does_not_replace_what_goes(registry, release, served, new) -> None:
    region = f"elsewhere-{'-'.join(served)}"
    release(region, **served)
    made = release(region, 80, content=b"new", **new)
    (beside,) = made.comparisons
    assert beside.verdict is Decision.FAILED
    assert f"/{1} (its engine of cpu" in beside.reason
    assert made.held is not None and f"cpu{'-two' if 'target' in new else ' (saturating)'}: " in made.held.found
    assert _versions(registry, region) == {CHAMPION: 1, CHALLENGER: 2}


def test_what_comes_is_beside_what_goes_and_not_beside_what_another_replaces(registry, bundles) -> None:
    """A poor engine that stays poor is no bar for one that takes the place of a good one."""
    named = {"accuracy": bundles.policy.accuracy.model_copy(update={"limit": 5.0})}
    named["targets"] = tuple(Target(name=name, backend="onnxruntime") for name in ("a-poor", "good", "renamed"))
    here = dataclasses.replace(bundles, policy=bundles.policy.model_copy(update=named))

    def published(**wrong: tuple[str, int]) -> Published:
        outcomes = []
        for content, (target, count) in wrong.items():
            judged = dataclasses.replace(here, results=answers(count))
            outcomes.append(judged.outcome(judged.artifact("goes", target, content=content.encode())))
        return publish(here.exported(), outcomes, here.policy_of("goes"), here.store, registry, _never)

    assert published(one=("a-poor", 80), two=("good", 0)).held is None
    made = published(three=("a-poor", 80), four=("renamed", 80))
    assert {each.target: each.verdict for each in made.comparisons} == {
        "a-poor": Decision.APPROVED,
        "renamed": Decision.FAILED,
    }
    assert made.held is not None
    assert "(its engine of good" in made.held.found


SATURATING, VNNI = Arithmetic.SATURATING, Arithmetic.VNNI


@pytest.mark.parametrize(
    ("served", "new"),
    [
        ({("t", SATURATING): 80, ("t", VNNI): 0}, {("t", None): 80}),
        ({("t", None): 80, ("t-two", VNNI): 0}, {("t", None): None, ("t", VNNI): 80}),
        ({("t", None): 80, ("t", SATURATING): 0}, {("t", None): None, ("t", VNNI): 80}),
        ({("a", VNNI): 80, ("b", VNNI): 0}, {("c", VNNI): 80}),
    ],
    ids=["of both classes", "another target goes", "another class goes", "two targets go"],
)
def test_of_several_in_whose_place_it_comes_the_best_is_the_bar(registry, bundles, served, new, request) -> None:
    """None: that engine stays as it is."""
    names = {target for target, _ in (*served, *new)}
    changes = {"accuracy": bundles.policy.accuracy.model_copy(update={"limit": 5.0})}
    changes["targets"] = tuple(Target(name=name, backend="onnxruntime") for name in sorted(names))
    here = dataclasses.replace(bundles, policy=bundles.policy.model_copy(update=changes))
    region = request.node.callspec.id.replace(" ", "-")

    def published(engines: dict[tuple[str, Arithmetic | None], int | None], version: str) -> Published:
        outcomes = []
        for (target, arithmetic), wrong in engines.items():
            stays = wrong is None
            judged = dataclasses.replace(here, results=answers(served[target, arithmetic] if stays else wrong))
            artifact = judged.artifact(
                region, target, content=f"{target} {arithmetic} {'served' if stays else version}".encode()
            )
            stated = artifact.request.model_copy(update={"arithmetic": arithmetic})
            outcome = judged.outcome(artifact.model_copy(update={"request": stated}))
            outcomes.append(outcome.model_copy(update={"arithmetic": arithmetic}))
        return publish(here.exported(), outcomes, here.policy_of(region), here.store, registry, _never)

    assert published(served, "served").held is None
    (beside,) = published(new, "new").comparisons
    assert (beside.verdict, beside.loss) == (Decision.FAILED, pytest.approx(20.0))


def test_the_first_of_another_class_adds_to_one_that_stays_and_is_beside_nothing(registry, release) -> None:
    kept = {"arithmetic": Arithmetic.VNNI, "content": b"vnni"}
    release("classes", **kept)
    made = release("classes", 80, arithmetic=Arithmetic.AMX, content=b"amx", beside=kept)
    assert (made.comparisons, made.held) == ((), None)
    assert _versions(registry, "classes") == {CHAMPION: 2}


def test_a_version_says_of_each_class_how_it_compares(release) -> None:
    kept = {"arithmetic": Arithmetic.VNNI, "content": b"vnni"}
    release("each-class", arithmetic=Arithmetic.AMX, content=b"amx", beside=kept)
    new = {"arithmetic": Arithmetic.VNNI, "content": b"new vnni"}
    made = release("each-class", 80, arithmetic=Arithmetic.AMX, content=b"new amx", beside=new)
    assert {"against.cpu--amx", "against.cpu--vnni"} <= notes(made).keys()


def test_an_engine_of_a_class_is_beside_the_one_that_was_served_before_there_were_classes(release) -> None:
    release("since-classes")
    made = release("since-classes", 80, arithmetic=Arithmetic.VNNI, content=b"vnni")
    assert [each.verdict for each in made.comparisons] == [Decision.FAILED]


@pytest.mark.parametrize(
    "changes", [{"gate_set": b"another"}, {"metric_code": digest_bytes(b"corrected")}, {"metric_code": None}]
)
def test_where_gate_set_or_metric_changed_the_served_engine_answers_again(bundles, release, changes) -> None:
    asked = []

    def again(champion, served, new) -> Blob:
        asked.append((champion.version, served.engine.request.slot, new.evaluation.dataset))
        return bundles.store.put_bytes(answers(0).to_csv())

    region = f"again-{'-'.join(sorted(changes)).replace('_', '-')}-{len(str(changes))}"
    release(region, 80)
    made = release(region, 80, content=b"new", again=again, **changes)
    assert len(asked) == 1
    assert (made.comparisons[0].again, made.comparisons[0].verdict) == (True, Decision.FAILED)
    assert "which was run again on today's gate set" in made.comparisons[0].reason


@pytest.mark.parametrize(
    ("backend", "outputs", "why"),
    [
        ("tensorrt-rtx", "logits", "NotRunnableHere"),
        ("onnxruntime", "scores", "InvalidResults: expected outputs scores of"),
    ],
)
def test_a_served_engine_that_cannot_answer_here_holds_back_and_says_so(
    registry, bundles, release, backend, outputs, why
) -> None:
    region = f"here-{backend}"
    samples = Samples(
        ids=np.array(IDS),
        regions=np.full(COUNT, region),
        inputs={"image": np.zeros((COUNT, 1, 4, 4), np.uint8)},
        targets=np.zeros(COUNT, np.int64),
    )
    bundles.store.put_bytes(samples_to_bytes(samples))
    model = bundles.store.root / "model.onnx"
    model.write_bytes(b"weights")
    spec = ModelSpec(
        name="tiny", loader=model, inputs=bundles.inputs, outputs=(outputs,), metrics={"accuracy": top1}, data={}
    )

    def again(champion, served, new) -> Blob:
        policy = bundles.policy_of(region)
        with registry.downloaded(champion) as folder:
            return run_again(champion, folder, served, new, policy, spec, bundles.store, registry.keyring)

    release(region, backend=backend)
    made = release(region, content=b"new", backend=backend, gate_set=samples_to_bytes(samples), again=again)
    assert made.held is not None
    assert made.held.kind == "ChampionNotComparable"
    assert why in made.held.found
    assert _versions(registry, region) == {CHAMPION: 1, CHALLENGER: 2}
