"""An audit finds what a signature does not: what was signed wrongly, and what was right when it was signed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from regiolect.audit import audit, rows
from regiolect.bundle import read_bundle, write_bundle
from regiolect.calibrate.archive import table_to_bytes
from regiolect.contracts import (
    ApprovedEngine,
    AuditResult,
    CalibrationMethod,
    CalibrationTable,
    Seal,
    TensorRange,
)
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.integrity import digest_bytes
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.registry import Registry
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring

MADE = datetime(2026, 3, 1, tzinfo=UTC)
SAMPLES = 4000
_numbers = itertools.count()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@dataclasses.dataclass
class Desk:
    """One region whose release is signed by the right key, whatever it says; and today's policies."""

    registry: Registry
    bundles: Any
    folder: Path
    region: str
    stated: dict[str, Any]

    @property
    def name(self) -> str:
        return f"tiny-{self.region}"

    def policy(self, **changes: Any) -> RegionPolicy:
        return RegionPolicy.model_validate(self.stated | changes)

    def book(self, **changes: Any) -> PolicyBook:
        """Today's policies: the same but for some fields."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{self.region}.yaml").write_text(yaml.safe_dump(self.stated | changes))
        return PolicyBook(self.folder)

    def approved(
        self,
        lost: int = 2,
        seen_before: int = 0,
        sealed_to: str | None = None,
        change: Callable[[ApprovedEngine], ApprovedEngine] = lambda approved: approved,
    ) -> ApprovedEngine:
        """An engine with a true decision on results of which so many are lost.

        Args:
            seen_before: samples of the gate set that are in the calibration set as well.
            sealed_to: whose the calibration is.
            change: what the signer makes of it.
        """
        store, policy = self.bundles.store, self.policy()
        engine = np.ones(SAMPLES)
        engine[:lost] = 0
        ids = tuple(f"{self.region}/gate/{number:05}" for number in range(SAMPLES))
        results = PairedResults(ids, np.ones(SAMPLES), engine)
        seal = Seal(
            region=sealed_to or self.region,
            model=digest_bytes(b"graph"),
            preprocessing=digest_bytes(b"preprocessing"),
            dataset=digest_bytes(b"dataset"),
            sample_ids=(f"{self.region}/calibration/0", *ids[:seen_before]),
            checks=digest_bytes(b"checks"),
            made=MADE,
        )
        ranges = {"x": TensorRange(threshold=1, minimum=-1, maximum=1)}
        table = CalibrationTable(seal=seal, method=CalibrationMethod.ENTROPY, tensors=ranges)
        made = self.bundles.approved(self.bundles.artifact(self.region, content=f"{next(_numbers)}".encode()))
        artifact = made.engine.model_copy(update={"calibration": store.put_bytes(table_to_bytes(table)).digest})
        evaluation = made.evaluation.model_copy(
            update={
                "samples": SAMPLES,
                "reference_score": 1.0,
                "engine_score": float(engine.mean()),
                "results": store.put_bytes(results.to_csv()),
            }
        )
        decision = decide_gate(artifact, policy, made.attestation, evaluation, results)
        true = made.model_copy(update={"engine": artifact, "evaluation": evaluation, "decision": decision})
        return change(true)

    def release(self, approved: ApprovedEngine, *, champion: bool = True) -> None:
        folder = self.folder.parent / f"bundle-{next(_numbers)}"
        signing = Signing(self.registry.keyring.signer())
        bundles, policy = self.bundles, self.policy()
        write_bundle(
            folder, bundles.exported(), self.region, "Test", policy.canonical(), [approved], bundles.store, signing
        )
        self.registry.register(folder, read_bundle(folder), champion)

    def audited(self, book: PolicyBook | None = None, **options: Any) -> AuditResult:
        options = {"now": MADE + timedelta(days=10)} | options
        return audit(self.registry, book or self.book(), [self.name], **options)


@pytest.fixture
def desk(home: Path, bundles: Any, keyring: Keyring, tmp_path: Path) -> Desk:
    """One store for the module, as making a cold one takes seconds; each test has a region of its own."""
    region = f"r{next(_numbers)}"
    stated = {
        "region": region,
        "title": "Test",
        "reason": "Invented, for tests of the audit.",
        "precision": "FP32",
        "accuracy": {"metric": "accuracy", "limit": 0.5},
        "targets": [{"name": "cpu", "backend": "onnxruntime"}],
    }
    policy = RegionPolicy.model_validate(stated)
    registry = Registry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts", keyring=keyring)
    return Desk(registry, dataclasses.replace(bundles, policy=policy), tmp_path / "policies", region, stated)


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
