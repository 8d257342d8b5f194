"""A plan in a file: what still is as it was reviewed passes, and of all else it is said what differs, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regiolect.contracts import RegisteredEngine
from regiolect.errors import InvalidPlan, OutdatedPlan, UnknownModel, UsageError
from regiolect.planning import (
    ModelPlan,
    ReleaseRequest,
    ReviewedPlan,
    asked_for,
    on_this_machine,
    planned_alone,
    read_plan,
    require_as_reviewed,
    to_review,
    write_plan,
)
from tests.flows.tiny_models import ADDRESS, GPU, PORTABLE, WORKSHOP, Workshop

ASKED = ReleaseRequest.of(ADDRESS, None)
GOLDEN = Path(__file__).parents[2] / "golden" / "reviewed_plan_v1" / "plan.json"
OTHER = "sha256:" + "2" * 64
Made = Callable[..., ReviewedPlan]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


@pytest.fixture
def made(plan, file: Path) -> Made:
    """A plan as it comes out of a file, which a region's champions are known of."""

    def call(*champions: RegisteredEngine, registry: str = "sqlite:///mlflow.db", **how: Any) -> ReviewedPlan:
        write_plan(file, to_review(ASKED, plan(**how), {each.name: each for each in champions}, registry))
        return read_plan(file)

    return call


def served(version: int, *build_keys: str) -> RegisteredEngine:
    uri = f"models:/tiny-east/{version}"
    return RegisteredEngine(name="tiny-east", version=version, uri=uri, champion=True, build_keys=build_keys)


def differing(reviewed: ReviewedPlan, now: ReviewedPlan) -> list[str]:
    with pytest.raises(OutdatedPlan, match=f"regiolect plan {ADDRESS} --out") as refused:
        require_as_reviewed(reviewed, now)
    return refused.value.found.split("\n")


def test_a_plan_in_which_nothing_differs_passes(made: Made) -> None:
    require_as_reviewed(made(served(1, OTHER)), made(served(1, OTHER)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda shop: shop.write_policy("east", precision="FP16", limit=4.0),
            "build; changed: the policy (accuracy.limit 5 -> 4)",
        ),
        (
            lambda shop: shop.write_data("east", seed=1),
            "build; changed: the region's data (calibration set, still 64 samples, selection set, still 16 samples, "
            "gate set, still 400 samples)",
        ),
        (lambda shop: (shop.data("east") / "gate.npz").unlink(), "planned as build, not planned now"),
        (lambda shop: (shop.policies / "east.yaml").unlink(), "planned as build, not planned now"),
    ],
    ids=["policy", "data", "no data", "no region"],
)
def test_what_differs_is_told_where_it_does(
    made: Made, workshop: Workshop, change: Callable[[Workshop], object], told: str
) -> None:
    reviewed = made()
    change(workshop)
    assert differing(reviewed, made())[0] == f"east cpu: {told}"


def test_another_model_concerns_every_engine(made: Made, workshop: Workshop) -> None:
    reviewed = made()
    workshop.model.write_bytes(b"other weights")
    lines = differing(reviewed, made())
    assert [line.partition(" ")[0] for line in lines] == ["east", "north"]
    assert all(line.endswith(": build; changed: the model (model.onnx)") for line in lines)


def test_a_region_and_a_target_that_came_since_are_told(made: Made, workshop: Workshop) -> None:
    reviewed = made()
    workshop.add("west", PORTABLE, precision="FP32")
    assert differing(reviewed, made()) == ["west portable: not planned then, now build: never built"]


def test_the_same_refusal_is_no_difference_and_another_one_is(made: Made, workshop: Workshop) -> None:
    workshop.add("south", precision="FP16")
    (workshop.data("south") / "gate.npz").unlink()
    reviewed = made()
    require_as_reviewed(reviewed, made())
    (workshop.policies / "south.yaml").write_text("no policy")
    (line,) = differing(reviewed, made())
    assert line.startswith("south: refuse: InvalidPolicy: ")


def test_what_is_served_and_where_it_is_registered_belong_to_the_plan(made: Made) -> None:
    reviewed = made(served(1, OTHER))
    assert differing(reviewed, made(served(2, OTHER))) == [
        "east: serves models:/tiny-east/2, planned beside models:/tiny-east/1"
    ]
    assert differing(reviewed, made()) == ["east: serves nothing, planned beside models:/tiny-east/1"]
    assert differing(made(), made(registry="https://other")) == ["registry: sqlite:///mlflow.db, now https://other"]


def test_what_a_release_by_the_plan_did_before_it_was_interrupted_is_no_difference(
    made: Made, plan, build, workshop: Workshop
) -> None:
    build(plan("east").requests()[0])
    workshop.write_policy("east", precision="FP16", limit=4.0)
    reviewed = made(served(1, OTHER))
    assert reviewed.engines[0].action == "rebuild"
    done = build(plan("east").requests()[0])
    require_as_reviewed(reviewed, made(served(1, OTHER)))
    require_as_reviewed(reviewed, made(served(2, done.build_key)))
    require_as_reviewed(made(served(1, OTHER)), made(served(2, done.build_key)))


def test_an_engine_that_is_not_the_reviewed_one_is_told(made: Made, plan, build) -> None:
    build(plan("east").requests()[0])
    reviewed = made()
    engines = tuple(
        engine.model_copy(update={"tuning": OTHER} if engine.region == "east" else {}) for engine in reviewed.engines
    )
    assert differing(reviewed, reviewed.model_copy(update={"engines": engines})) == [
        "east cpu: reuse of an engine that was tuned since"
    ]
    (line,) = differing(reviewed, made(force=True))[:1]
    assert line == "east cpu: reuse, now rebuild: asked for with --force"


def test_what_is_to_be_retired_is_no_work_and_holds_nothing_up(made: Made, plan, build, workshop: Workshop) -> None:
    workshop.add("west", PORTABLE, GPU, precision="FP32")
    build(plan("west").requests()[0])
    (workshop.policies / "west.yaml").unlink()
    reviewed = made()
    assert [engine.action for engine in reviewed.engines][-1] == "retire"
    engines = reviewed.engines[:-1]
    require_as_reviewed(reviewed, reviewed.model_copy(update={"engines": engines}))


def test_on_pools_a_machine_that_was_seen_since_is_another_build(made: Made, plan, store) -> None:
    reviewed = made(on_pools=True)
    require_as_reviewed(reviewed, made(on_pools=True))
    on_this_machine(plan("east", on_pools=True).requests()[0], store)
    (line,) = differing(reviewed, made(on_pools=True))
    assert line.startswith("east cpu: build; changed: the backend or its machine (a machine not seen before -> backend")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        ("{", "no JSON"),
        ('{"format": 1, "work": true}', "another kind"),
        ("[]", "another kind"),
        ('{"kind": "regiolect plan", "format": 2}', "format 2"),
        ('{"kind": "regiolect plan", "format": 1}', "made: Field required"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_by_its_name(file: Path, content: str | None, found: str) -> None:
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidPlan, match=found) as refused:
        read_plan(file)
    assert str(file) in refused.value.expected
    assert refused.value.exit_code == 2


def test_a_plan_is_data_that_people_read(made: Made, file: Path) -> None:
    made(served(1, OTHER))
    content = json.loads(file.read_text())
    assert content["asked"]["address"] == ADDRESS
    assert content["summary"] == "2 to build, 0 to rebuild, 0 unchanged, 0 refused, 0 to retire"
    assert content["served"]["east"]["uri"] == "models:/tiny-east/1"


def test_a_plan_says_all_that_is_asked_for(made: Made, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSHOP, str(workshop.folder))
    reviewed = made()
    assert asked_for(None, None, None, False, reviewed) == asked_for(ADDRESS, None, None, False, reviewed) == ASKED
    for beside in ((None, ["east"], None, False), (None, None, "cpu", False), (ADDRESS, None, None, True)):
        with pytest.raises(UsageError, match="plan again"):
            asked_for(*beside, reviewed)
    with pytest.raises(UsageError, match=f"expected a plan of {ADDRESS}_FLOAT"):
        asked_for(f"{ADDRESS}_FLOAT", None, None, False, reviewed)
    with pytest.raises(UnknownModel, match="regiolect run --plan FILE"):
        asked_for(None, None, None, False, None)


def test_one_file_holds_the_plan_of_one_model(plan) -> None:
    one = ModelPlan(address=ADDRESS, plan=plan())
    assert planned_alone([one]) is one.plan
    with pytest.raises(UsageError, match="name one of them"):
        planned_alone([one, one])


def test_a_plan_that_was_kept_by_an_earlier_version_still_reads_and_says_the_same(file: Path) -> None:
    kept = read_plan(GOLDEN)
    require_as_reviewed(kept, kept)
    write_plan(file, kept)
    assert file.read_text() == GOLDEN.read_text()
