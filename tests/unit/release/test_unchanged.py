"""What a release comes to that finds nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regiolect.contracts import Decision, RegionOutcome, ReleaseResult
from regiolect.planning import Plan
from regiolect.registry import Registry
from regiolect.release.unchanged import unchanged
from regiolect.settings import Settings
from regiolect.signing.promotion import PROMOTIONS
from regiolect.storage import LocalStore
from tests.databases import Databases

Planned = Callable[..., Plan]
Released = Callable[[], ReleaseResult | None]
OTHER = "sha256:" + "2" * 64


@pytest.fixture
def registry(databases: Databases, tmp_path: Path) -> Registry:
    databases.put_mlflow(tmp_path)
    return Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")


@pytest.fixture
def register(registry: Registry, bundles: Any, tmp_path: Path) -> Callable[..., None]:
    """Registers a version of engines of these build keys, as champion or beside it."""

    def call(*build_keys: str, champion: bool = True) -> None:
        engines = []
        for build_key, target in zip(build_keys, ("cpu", "other"), strict=False):
            engine = bundles.artifact("north", target)
            engines.append(
                engine.model_copy(update={"request": engine.request.model_copy(update={"build_key": build_key})})
            )
        folder = tmp_path / f"bundle-{champion}"
        registry.register(folder, bundles.write(folder, *engines, region="north"), champion)

    return call


@pytest.fixture
def released(registry: Registry, plan: Planned, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> Released:
    """A release of `north`, as far as it finds nothing to do."""
    monkeypatch.setenv("REGIOLECT_STORE", str(store.root))

    def release() -> ReleaseResult | None:
        planned = plan("north", champions=registry.champions)
        return unchanged(Settings(), planned, registry, datetime.now(UTC))

    return release


@pytest.fixture
def built(plan: Planned, build: Callable[..., RegionOutcome]) -> RegionOutcome:
    return build(plan("north").requests()[0])


def test_what_is_kept_and_served_is_told(
    released: Released, built: RegionOutcome, register: Callable[..., None], store: LocalStore
) -> None:
    register(built.build_key)
    result = released()
    assert result is not None
    (row,) = result.rows
    assert (row.decision, row.rebuilt, row.model_uri) == (Decision.APPROVED, False, "models:/tiny-north@champion")
    assert row.build_key == built.build_key
    assert result.complete
    assert result.report is None
    assert list((store.root / "records" / PROMOTIONS).iterdir()), "an audit finds it, as after each release"


def test_what_is_to_be_built_or_promoted_is_work(released: Released, plan: Planned, build: Any) -> None:
    assert released() is None, "to build"
    build(plan("north").requests()[0])
    assert released() is None, "to promote"


def test_what_the_gate_refused_is_work_for_a_release_puts_its_champion_back(
    released: Released, plan: Planned, build: Any
) -> None:
    build(plan("north").requests()[0], Decision.FAILED)
    assert released() is None


def test_a_version_that_serves_more_than_is_asked_for_is_work(
    released: Released, built: RegionOutcome, register: Callable[..., None]
) -> None:
    register(built.build_key, OTHER)
    assert released() is None, "a release leaves out what the policy does not name any more"


def test_a_challenger_that_waits_is_work(
    released: Released, built: RegionOutcome, register: Callable[..., None]
) -> None:
    register(built.build_key)
    register(built.build_key, OTHER, champion=False)
    assert released() is None, "a release that makes the champion anew takes it away"


def test_an_engine_that_goes_while_it_is_looked_at_is_work(
    released: Released,
    built: RegionOutcome,
    register: Callable[..., None],
    registry: Registry,
    plan: Planned,
    store: LocalStore,
) -> None:
    register(built.build_key)
    assert released() is not None
    planned = plan("north", champions=registry.champions)
    assert built.engine is not None
    store.path_of(built.engine.files[0].blob).unlink()
    assert unchanged(Settings(), planned, registry, datetime.now(UTC)) is None


def test_where_the_registry_does_not_answer_nothing_is_told(
    built: RegionOutcome, plan: Planned, tmp_path: Path
) -> None:
    (tmp_path / "no.db").write_bytes(b"this is no database" * 100)
    registry = Registry(f"sqlite:///{tmp_path / 'no.db'}", tmp_path / "artifacts")
    planned = plan("north", champions=registry.champions)
    assert planned.registry is not None
    assert unchanged(Settings(), planned, registry, datetime.now(UTC)) is None
