"""Plans of several models in one look: shared work is done once, and no change between two plans is missed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regiolect import integrity
from regiolect.data import FolderSource
from regiolect.model import ModelSpec
from regiolect.planning import Installation, ModelPlan, ReleaseRequest, engines_of, plan_models
from regiolect.policy import PolicyBook
from regiolect.storage import LocalStore
from tests.flows.tiny_models import ADDRESS, WORKSHOP, Workshop

FLOAT = f"{ADDRESS}_FLOAT"
Planned = Callable[..., tuple[ModelPlan, ...]]


@pytest.fixture
def plans(workshop: Workshop, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> Planned:
    monkeypatch.setenv(WORKSHOP, str(workshop.folder))

    def planned(*models: str, **how: Any) -> tuple[ModelPlan, ...]:
        at_once = {"at_once": how.pop("at_once")} if "at_once" in how else {}
        asked = {name: how.pop(name) for name in ("regions", "targets") if name in how}
        here = Installation(PolicyBook(workshop.policies), lambda region: store, **how)
        requests = [ReleaseRequest.of(model, **{"regions": None, **asked}) for model in models or (ADDRESS, FLOAT)]
        return plan_models(requests, here, **at_once)

    return planned


def keys(planned: tuple[ModelPlan, ...]) -> list[str]:
    return [engine.request.build_key for engine in engines_of(planned) if engine.request]


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_file_that_models_share_is_read_once_a_plan(plans: Planned, monkeypatch, at_once: int) -> None:
    read: Counter[Path] = Counter()
    digest_file = integrity.digest_file

    def counted(path: Path) -> str:
        read[path] += 1
        return digest_file(path)

    monkeypatch.setattr(integrity, "digest_file", counted)
    first = plans()
    assert len(read) >= 8, "a model, six sets and the metric's code"
    if at_once == 1:
        assert set(read.values()) == {1}
    assert keys(plans(at_once=at_once)) == keys(first)


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_same_plan_however_many_models_stand_beside(plans: Planned, at_once: int) -> None:
    alone = [keys(plans(ADDRESS)), keys(plans(FLOAT))]
    assert keys(plans(at_once=at_once)) == [*alone[0], *alone[1]]


def test_a_file_rewritten_in_place_with_its_old_times_and_size_is_noticed(plans: Planned, workshop: Workshop) -> None:
    before = keys(plans())
    times = workshop.model.stat()
    content = workshop.model.read_bytes()
    workshop.model.write_bytes(content[::-1])
    os.utime(workshop.model, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert workshop.model.stat().st_size == times.st_size
    assert not set(keys(plans())) & set(before)
    workshop.model.write_bytes(content)
    assert keys(plans()) == before


def test_specs_that_are_made_anew_for_every_question_are_not_taken_for_each_other(
    plans: Planned, workshop: Workshop, monkeypatch
) -> None:
    # A ModelSpec that nobody holds leaves its place in memory to the next.
    def spec(self: Workshop) -> ModelSpec:
        made = original(self)
        return replace(made, name=f"tiny-{self.raw_dtype}", data={**made.data, "east": north_for_east(made)})

    def north_for_east(made: ModelSpec) -> FolderSource:
        return FolderSource("east", workshop.data("north"), made.data["east"].declared, 4)

    original = Workshop.spec
    plain = keys(plans(ADDRESS, FLOAT, ADDRESS))
    assert plain[:2] == plain[4:]
    assert len(set(plain)) == 4
    monkeypatch.setattr(Workshop, "spec", spec)
    other = keys(plans())
    assert len(set(other)) == 4


def test_a_target_of_one_model_alone_is_known(plans: Planned, workshop: Workshop) -> None:
    assert [engine.action for engine in engines_of(plans(targets=["cpu"]))] == ["build"] * 4


def test_where_regions_are_named_a_model_without_their_data_is_left_out(plans: Planned, workshop: Workshop) -> None:
    workshop.write_policy("dry")
    assert plans(regions=["dry"]) == ()
    assert [len(each.plan.engines) for each in plans(regions=["dry", "east"])] == [1, 1]
