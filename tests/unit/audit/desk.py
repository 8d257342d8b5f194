"""One region whose releases are signed by the right key, whatever they say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from regiolect.audit import audit
from regiolect.bundle.manifest import read_bundle
from regiolect.bundle.write import write_bundle
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
from regiolect.signing.promotion import keep_promotion

MADE = datetime(2026, 3, 1, tzinfo=UTC)
SAMPLES = 4000
NUMBERS = itertools.count()


def stated(region: str) -> dict[str, Any]:
    """A policy as its file states it."""
    return {
        "region": region,
        "title": "Test",
        "reason": "Invented, for what is made of engines that were approved.",
        "precision": "FP32",
        "accuracy": {"metric": "accuracy", "limit": 0.5},
        "targets": [{"name": "cpu", "backend": "onnxruntime"}],
    }


@dataclass
class Desk:
    """One region whose release is signed by the right key, whatever it says; and today's policies."""

    registry: Registry
    bundles: Any
    folder: Path
    region: str
    stated: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.bundles.model}-{self.region}"

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
        content: bytes = b"",
    ) -> ApprovedEngine:
        """An engine with a true decision on results of which so many are lost.

        Args:
            seen_before: samples of the gate set that are in the calibration set as well.
            sealed_to: whose the calibration is.
            change: what the signer makes of it.
            content: the engine's file; a few bytes of its own when left out.
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
        made = self.bundles.artifact(self.region, content=content or f"{next(NUMBERS)}".encode())
        artifact = made.model_copy(update={"calibration": store.put_bytes(table_to_bytes(table)).digest})
        attestation = self.bundles.attestation(made)
        evaluation = self.bundles.evaluation(made).model_copy(
            update={
                "samples": SAMPLES,
                "reference_score": 1.0,
                "engine_score": float(engine.mean()),
                "results": store.put_bytes(results.to_csv()),
            }
        )
        decision = decide_gate(artifact, policy, attestation, evaluation, results)
        return change(
            ApprovedEngine(engine=artifact, attestation=attestation, evaluation=evaluation, decision=decision)
        )

    def release(self, approved: ApprovedEngine, *, champion: bool = True) -> None:
        folder = self.folder.parent / f"bundle-{next(NUMBERS)}"
        signing = Signing(self.registry.keyring.signer())
        bundles, policy = self.bundles, self.policy()
        write_bundle(
            folder, bundles.exported(), self.region, "Test", policy.canonical(), [approved], bundles.store, signing
        )
        self.registry.register(folder, read_bundle(folder), champion)
        promotion = self.registry.promotion(bundles.model, self.region)
        if promotion is not None:
            keep_promotion(bundles.store, self.name, promotion)

    def audited(self, book: PolicyBook | None = None, **options: Any) -> AuditResult:
        options = {"now": MADE + timedelta(days=10)} | options
        return audit(self.registry, book or self.book(), [self.name], **options)
