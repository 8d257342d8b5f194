"""An audit finds what a signature does not: what was signed wrongly, and what was right when it was signed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from regiolect.audit import audit, rows
from regiolect.contracts import (
    ApprovedEngine,
    AuditResult,
)
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.registry import Registry
from regiolect.signing.keyring import Keyring
from tests.unit.audit.desk import MADE, NUMBERS, Desk, stated


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def desk(home: Path, bundles: Any, keyring: Keyring, tmp_path: Path) -> Desk:
    """One store for the module, as making a cold one takes seconds; each test has a region of its own."""
    region = f"r{next(NUMBERS)}"
    policy = RegionPolicy.model_validate(stated(region))
    registry = Registry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts", keyring=keyring)
    return Desk(registry, dataclasses.replace(bundles, policy=policy), tmp_path / "policies", region, stated(region))


def kinds(result: AuditResult) -> list[str]:
    return [failure.kind for version in result.versions for _, failure in version.all_findings()]


def test_an_engine_that_today_s_policy_still_approves_is_well_even_if_the_policy_changed(desk: Desk) -> None:
    desk.release(desk.approved())
    assert desk.audited().clean
    assert desk.audited(desk.book(accuracy={"metric": "accuracy", "limit": 0.4})).clean


@pytest.mark.parametrize(
    ("today", "found"),
    [
        ({"accuracy": {"metric": "accuracy", "limit": 0.1}}, "limit 0.1"),
        ({"accuracy": {"metric": "accuracy", "limit": 0.5, "confidence": 0.9999999}}, "so inconclusive"),
        ({"samples": {"gate": 5000}}, "at least 5,000"),
        ({"latency": {"p99_ms": 0.1}}, "so inconclusive"),
        ({"targets": [{"name": "edge", "backend": "openvino"}]}, "one for cpu"),
        ({"precision": "FP16", "forbidden": ["FP32"], "repair": {"fallback": []}}, "forbidden in region"),
    ],
    ids=["limit", "confidence", "samples", "latency", "target", "forbidden"],
)
def test_an_engine_that_a_tightened_policy_would_refuse_is_reported(
    desk: Desk, today: dict[str, Any], found: str
) -> None:
    desk.release(desk.approved())
    result = desk.audited(desk.book(**today))
    assert kinds(result) == ["NoLongerAllowed"]
    assert found in result.versions[0].engines[0].findings[0].found


def test_a_calibration_older_than_today_s_policy_allows_is_reported(desk: Desk) -> None:
    desk.release(desk.approved())
    book = desk.book(calibration={"max_age_days": 30})
    assert desk.audited(book, now=MADE + timedelta(days=29)).clean
    result = desk.audited(book, now=MADE + timedelta(days=31))
    assert kinds(result) == ["CalibrationTooOld"]
    assert "31.0 days ago" in result.versions[0].engines[0].findings[0].found


def test_a_region_that_has_no_policy_any_more_is_reported(desk: Desk) -> None:
    desk.release(desk.approved())
    desk.book()
    own = desk.folder / f"{desk.region}.yaml"
    own.write_text(own.read_text().replace(desk.region, "other"))
    own.rename(desk.folder / "other.yaml")
    assert kinds(desk.audited(PolicyBook(desk.folder))) == ["UnknownRegion"]


def decided(**figures: Any) -> Callable[[ApprovedEngine], ApprovedEngine]:
    def change(approved: ApprovedEngine) -> ApprovedEngine:
        return approved.model_copy(update={"decision": approved.decision.model_copy(update=figures)})

    return change


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ({"change": decided(loss_upper=0.01)}, "DecisionNotReproduced"),
        ({"change": decided(threshold=5.0)}, "DecisionNotReproduced"),
        ({"change": decided(samples=9000)}, "DecisionNotReproduced"),
        ({"seen_before": 3}, "SamplesSeenBefore"),
        ({"sealed_to": "elsewhere"}, "ForeignCalibration"),
    ],
    ids=["a smaller bound", "a larger limit", "more samples", "gate samples calibrated on", "foreign calibration"],
)
def test_what_the_right_key_signed_wrongly_is_reported(desk: Desk, what: dict[str, Any], kind: str) -> None:
    desk.release(desk.approved(**what))
    assert kinds(desk.audited()) == [kind]


def test_every_finding_is_told_and_none_hides_another(desk: Desk) -> None:
    desk.release(desk.approved(seen_before=1, change=decided(loss_upper=0.0)))
    book = desk.book(accuracy={"metric": "accuracy", "limit": 0.01}, calibration={"max_age_days": 1})
    result = desk.audited(book)
    wanted = ["DecisionNotReproduced", "SamplesSeenBefore", "NoLongerAllowed", "CalibrationTooOld"]
    assert kinds(result) == wanted
    assert [row["finding"] for row in rows(result)] == wanted
    assert result.summary().startswith("1 of 1 versions with findings: 1 CalibrationTooOld, ")


def test_a_version_without_an_alias_is_looked_at_when_asked(desk: Desk) -> None:
    for _ in range(3):
        desk.release(desk.approved())
    assert [version.aliases for version in desk.audited().versions] == [("previous",), ("champion",)]
    assert [version.version for version in desk.audited(everything=True).versions] == [1, 2, 3]


def test_a_registry_that_is_not_there_holds_nothing_and_is_not_made(tmp_path: Path, keyring: Keyring) -> None:
    result = audit(Registry(f"sqlite:///{tmp_path / 'none.db'}", None, keyring=keyring), PolicyBook())
    assert result.clean
    assert not result.versions
    assert not list(tmp_path.iterdir())
