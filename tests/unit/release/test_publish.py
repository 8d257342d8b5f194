"""What a region serves after a release: never less than before without somebody asking for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from regiolect.bundle.manifest import MANIFEST, POLICY, BundleManifest
from regiolect.contracts import Arithmetic, Blob, Decision, RegisteredEngine
from regiolect.errors import DecisionNotReproduced, RegistryError
from regiolect.policy import RegionPolicy
from regiolect.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from regiolect.release.publish import publish

pytestmark = pytest.mark.slow

YES, NO, REFUSED = Decision.APPROVED, Decision.FAILED, Decision.REFUSED


@pytest.fixture(scope="module")
def registry(registry_home: Path) -> Registry:
    """Each test has a region of its own."""
    return Registry(f"sqlite:///{registry_home / 'mlflow.db'}", registry_home / "artifacts")


def nothing(*compared: object) -> Blob:
    raise AssertionError("the served engine is run again")


@pytest.fixture
def release(registry, bundles) -> Callable[..., RegisteredEngine | None]:
    """Publishes a region of which each target was decided as told; `content` makes other engines."""

    def call(region: str, content: bytes = b"", **decided: Decision) -> RegisteredEngine | None:
        artifacts = {name: bundles.artifact(region, name, content=name.encode() + content) for name in decided}
        outcomes = [bundles.outcome(artifacts[name], decision) for name, decision in decided.items()]
        return publish(
            bundles.exported(), outcomes, bundles.policy_of(region), bundles.store, registry, nothing
        ).champion

    return call


def _versions(registry: Registry, region: str) -> dict[str, int]:
    found = {alias: registry.by_alias(f"tiny-{region}", alias) for alias in (CHAMPION, PREVIOUS, CHALLENGER)}
    return {alias: version.version for alias, version in found.items() if version is not None}


def test_a_region_without_an_approved_engine_and_without_a_champion_has_none(registry, release):
    assert release("none", a=NO, b=REFUSED) is None
    assert _versions(registry, "none") == {}


def test_approved_engines_become_the_champion(registry, bundles, release):
    made = release("both", a=YES, b=YES)
    assert made == registry.by_alias("tiny-both", CHAMPION)
    assert made.champion
    assert made.targets == ("a", "b")
    request = bundles.artifact("both", "a", content=b"a").request
    assert (made.policy, made.build_keys[0]) == (request.policy, request.build_key)
    assert _versions(registry, "both") == {CHAMPION: 1}


def test_nothing_approved_leaves_the_champion_and_names_it(registry, release):
    first = release("kept", a=YES)
    assert release("kept", b"new", a=NO) == first
    assert release("kept", b"new", a=REFUSED) == first
    assert _versions(registry, "kept") == {CHAMPION: 1}


@pytest.mark.parametrize("decision", [NO, REFUSED, Decision.INCONCLUSIVE])
def test_a_served_target_is_not_taken_away_by_its_failure(registry, release, decision):
    region = f"served-{decision.value}"
    first = release(region, a=YES, b=YES)
    assert release(region, b"new", a=YES, b=decision) == first
    assert _versions(registry, region) == {CHAMPION: 1, CHALLENGER: 2}
    assert release(region, b"new", a=YES, b=decision) == first, "nor by the same release again"
    assert _versions(registry, region) == {CHAMPION: 1, CHALLENGER: 2}
    mended = release(region, b"newer", a=YES, b=YES)
    assert (mended.version, mended.targets) == (3, ("a", "b"))
    assert _versions(registry, region)[CHAMPION] == 3
    assert _versions(registry, region)[PREVIOUS] == 1


def test_a_target_that_the_policy_dropped_holds_nothing_back(registry, release):
    release("dropped", a=YES, b=YES)
    assert release("dropped", b"new", a=YES).targets == ("a",)
    assert _versions(registry, "dropped") == {CHAMPION: 2, PREVIOUS: 1}


def test_a_target_that_was_never_served_holds_nothing_back(registry, release):
    release("never", a=YES, b=NO)
    assert release("never", b"new", a=YES, b=NO).version == 2
    assert _versions(registry, "never") == {CHAMPION: 2, PREVIOUS: 1}


def test_a_new_title_is_the_versions_and_what_was_signed_before_stays(registry, bundles, release):
    release("titled", a=YES, b=YES)
    artifacts = [
        bundles.artifact("titled", name, content=name.encode() + new) for name, new in (("a", b""), ("b", b"!"))
    ]
    renamed = bundles.policy_of("titled").model_copy(update={"title": "The Continent"})
    outcomes = [bundles.outcome(each) for each in artifacts]
    made = publish(bundles.exported(), outcomes, renamed, bundles.store, registry, nothing).champion
    manifest = BundleManifest.model_validate_json(registry.read(made, MANIFEST))
    assert (made.version, manifest.title) == (2, "The Continent")
    signed = RegionPolicy.model_validate_json(registry.read(made, POLICY))
    assert (signed.title, signed.digest()) == ("Europe", manifest.policy)


@pytest.fixture
def release_classes(registry, bundles) -> Callable[..., RegisteredEngine | None]:
    """Publishes a region of one target, of which the engine of each class was decided as told."""

    def call(region: str, content: bytes = b"", **decided: Decision) -> RegisteredEngine | None:
        outcomes = []
        for name, decision in decided.items():
            made = bundles.artifact(region, "cpu", content=name.encode() + content)
            request = made.request.model_copy(update={"arithmetic": Arithmetic(name)})
            outcome = bundles.outcome(made.model_copy(update={"request": request}), decision)
            outcomes.append(outcome.model_copy(update={"arithmetic": Arithmetic(name)}))
        return publish(
            bundles.exported(), outcomes, bundles.policy_of(region), bundles.store, registry, nothing
        ).champion

    return call


def test_a_version_holds_an_engine_for_each_class_and_a_new_class_adds(registry, release_classes):
    release_classes("pool", vnni=YES)
    both = release_classes("pool", vnni=YES, amx=YES)
    assert (both.version, both.targets) == (2, ("cpu", "cpu"))
    assert both.arithmetics == (Arithmetic.VNNI, Arithmetic.AMX)
    assert both == registry.by_alias("tiny-pool", CHAMPION), "its tags tell the same"
    assert both == registry.champion("tiny", "pool"), "and so does what is signed"
    assert both.serves("cpu", Arithmetic.AMX)
    assert not both.serves("cpu", Arithmetic.SATURATING)


def test_a_served_class_is_not_taken_away_by_its_failure(registry, release_classes):
    first = release_classes("failing", vnni=YES, amx=YES)
    assert release_classes("failing", b"new", vnni=YES, amx=NO) == first
    assert _versions(registry, "failing") == {CHAMPION: 1, CHALLENGER: 2}


def test_a_class_that_was_never_served_and_one_without_a_machine_hold_nothing_back(registry, release_classes):
    release_classes("gone", vnni=YES, amx=YES)
    assert release_classes("gone", b"new", vnni=YES, saturating=NO).arithmetics == (Arithmetic.VNNI,)
    assert _versions(registry, "gone") == {CHAMPION: 2, PREVIOUS: 1}


def test_an_engine_from_before_there_were_classes_is_not_taken_away_by_the_failure_of_one(
    registry, release, release_classes
):
    first = release("older", cpu=YES)
    assert release_classes("older", b"new", vnni=NO, amx=YES) == first


def test_another_models_champion_is_not_taken_for_this_ones(registry, bundles, release):
    release("eu-west", a=YES)
    other = dataclasses.replace(bundles, model="tiny-eu")
    refused = other.outcome(other.artifact("west"), NO)
    with pytest.raises(RegistryError, match="rename"):
        publish(other.exported(), [refused], other.policy_of("west"), other.store, registry, nothing)


@pytest.mark.parametrize("figure", ["loss_upper", "threshold"])
def test_a_decision_that_its_results_do_not_make_is_not_signed(registry, bundles, figure):
    """Somebody who can write the store keeps an outcome there that no gate ever gave."""
    planted = bundles.outcome(bundles.artifact("planted"))
    better = planted.gate.model_copy(update={figure: getattr(planted.gate, figure) - 0.01})
    forged = planted.model_copy(update={"gate": better})
    with pytest.raises(DecisionNotReproduced, match=figure):
        publish(bundles.exported(), [forged], bundles.policy_of("planted"), bundles.store, registry, nothing)
    assert _versions(registry, "planted") == {}
