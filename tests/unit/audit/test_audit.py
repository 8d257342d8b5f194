"""An audit finds what a signature does not: what was signed wrongly, and what was right when it was signed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from regiolect.audit import audit, rows
from regiolect.contracts import (
    ApprovedEngine,
    Arithmetic,
    AuditResult,
    EngineArtifact,
    Execution,
    Target,
)
from regiolect.errors import RegistryError, UsageError
from regiolect.integrity import canonical_json
from regiolect.policy import PolicyBook
from regiolect.registry import Registry
from regiolect.signing.keyring import Keyring
from tests.unit.audit.desk import MADE, Desk

pytestmark = pytest.mark.slow


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
        ({"accuracy": {"metric": "accuracy", "limit": 0.5, "least": 0.9999}}, "least: scores 0.9995"),
        ({"samples": {"gate": 5000}}, "at least 5,000"),
        ({"latency": {"p99_ms": 0.1}}, "so inconclusive"),
        ({"targets": [{"name": "edge", "backend": "openvino"}]}, "one for cpu"),
        ({"precision": "FP16", "forbidden": ["FP32"], "repair": {"fallback": []}}, "forbidden in region"),
    ],
    ids=["limit", "confidence", "floor", "samples", "latency", "target", "forbidden"],
)
def test_an_engine_that_a_tightened_policy_would_refuse_is_reported(
    desk: Desk, today: dict[str, Any], found: str
) -> None:
    desk.release(desk.approved())
    result = desk.audited(desk.book(**today))
    assert kinds(result) == ["NoLongerAllowed"]
    assert found in result.versions[0].engines[0].findings[0].found


@pytest.fixture
def built_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the desk's engines ones of class VNNI for a target as a policy stated it then."""
    made = desk.bundles.artifact

    def set_target(**stated: Any) -> None:
        target = Target(name="cpu", backend="onnxruntime", **stated)
        of_class = {"target": target, "arithmetic": Arithmetic.VNNI}

        def artifact(*given: Any, **more: Any) -> EngineArtifact:
            plain = made(*given, **more)
            return plain.model_copy(update={"request": plain.request.model_copy(update=of_class)})

        monkeypatch.setattr(desk.bundles, "artifact", artifact)

    return set_target


@pytest.mark.parametrize(
    ("then", "today", "allowed"),
    [
        ((), ["vnni"], True),
        (("vnni",), [], True),
        (("vnni",), ["vnni", "saturating"], True),
        ((), ["saturating"], False),
        (("vnni", "saturating"), ["saturating"], False),
    ],
)
def test_an_engine_is_of_a_target_that_takes_its_class_however_the_classes_were_stated(
    desk: Desk, built_for: Callable[..., None], then: tuple[str, ...], today: list[str], allowed: bool
) -> None:
    built_for(arithmetic=then)
    desk.release(desk.approved())
    result = desk.audited(desk.book(targets=[{"name": "cpu", "backend": "onnxruntime", "arithmetic": today}]))
    assert kinds(result) == ([] if allowed else ["NoLongerAllowed"])
    for engine in result.versions[0].engines if not allowed else ():
        assert "cpu, onnxruntime (arithmetic: saturating)" in engine.findings[0].expected
        assert engine.findings[0].found == "one for cpu, onnxruntime (arithmetic: vnni)"


def test_an_engine_that_was_built_with_other_options_is_no_longer_of_the_target(
    desk: Desk, built_for: Callable[..., None]
) -> None:
    built_for(options={"level": 3})
    desk.release(desk.approved())
    result = desk.audited(desk.book(accuracy={"metric": "accuracy", "limit": 0.4}))
    assert kinds(result) == ["NoLongerAllowed"]
    assert "onnxruntime (level: 3" in result.versions[0].engines[0].findings[0].found


def test_a_calibration_older_than_today_s_policy_allows_is_reported(desk: Desk) -> None:
    desk.release(desk.approved())
    book = desk.book(calibration={"max_age_days": 30})
    assert desk.audited(book, now=MADE + timedelta(days=29)).clean
    result = desk.audited(book, now=MADE + timedelta(days=31))
    assert kinds(result) == ["CalibrationTooOld"]
    assert "its calibration is 31 days old, the policy allows 30" in result.versions[0].engines[0].findings[0].found


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


def test_a_floor_that_the_policy_states_and_no_decision_holds_is_reported(desk: Desk) -> None:
    """As a signer would leave it out whose engine misses it."""
    desk.stated["accuracy"]["least"] = 0.9
    desk.bundles.policy = desk.policy()
    desk.release(desk.approved(change=decided(least=None, score_lower=None)))
    (finding,) = [failure for version in desk.audited().versions for _, failure in version.all_findings()]
    assert finding.kind == "DecisionNotReproduced"
    assert finding.expected.startswith("least 0.9")
    assert finding.found == "None in the decision"


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


def test_a_registry_that_is_not_there_is_no_good_one_and_is_not_made(tmp_path: Path, keyring: Keyring) -> None:
    with pytest.raises(RegistryError, match="correct MLFLOW_TRACKING_URI"):
        audit(Registry(f"sqlite:///{tmp_path / 'none.db'}", None, keyring=keyring), PolicyBook())
    assert not list(tmp_path.iterdir())


def test_a_name_that_nobody_registered_is_refused_with_the_one_that_was_meant(desk: Desk) -> None:
    desk.release(desk.approved())
    with pytest.raises(UsageError, match=f"did you mean '{desk.name}'"):
        audit(desk.registry, desk.book(), [desk.name, f"{desk.name}x"])


# ------------------------------------------------------------------------------ what is in the registry beside bundles


def stored(desk: Desk) -> Path:
    """The folder of the champion as MLflow loads it."""
    (found,) = desk.registry.live([desk.name])
    return Path(found.source.removeprefix("file://"))


def described(desk: Desk, change: Callable[[dict[str, Any]], Any]) -> None:
    path = stored(desk) / "MLmodel"
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d["flavors"]["python_function"].update(loader_module="evil"), "loader_module 'evil'"),
        (lambda d: d["flavors"]["python_function"].update(code="code"), "code 'code'"),
        (lambda d: d["flavors"]["python_function"].update(data="bundle"), "data 'bundle'"),
        (lambda d: d["flavors"].update(sklearn={}), "flavors ["),
        (lambda d: d.update(flavors=None), "none of that"),
    ],
    ids=["another loader", "code", "another folder", "another flavor", "nothing"],
)
def test_what_mlflow_would_run_instead_of_the_loader_is_reported(
    desk: Desk, change: Callable[[dict[str, Any]], Any], found: str
) -> None:
    desk.release(desk.approved())
    described(desk, change)
    result = desk.audited()
    assert kinds(result) == ["IntegrityError"]
    assert found in result.versions[0].findings[0].found


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 100_000 + "x", "flavors: [\n"], ids=["flow", "block", "torn"])
def test_a_description_that_nothing_can_read_stops_no_audit(desk: Desk, text: str) -> None:
    desk.release(desk.approved())
    (stored(desk) / "MLmodel").write_text(text)
    assert kinds(desk.audited()) == ["IntegrityError"]


def test_a_version_that_holds_another_region_s_bundle_is_reported(desk: Desk, bundles: Any) -> None:
    """Approved and signed, but by the rules of a region that its consumers did not ask for."""
    desk.release(desk.approved())
    client = MlflowClient(desk.registry.tracking_uri, desk.registry.tracking_uri)
    client.create_registered_model(f"other-{desk.region}")
    client.create_model_version(f"other-{desk.region}", stored(desk).as_uri())
    client.set_registered_model_alias(f"other-{desk.region}", "challenger", "1")
    result = audit(desk.registry, desk.book(), [f"other-{desk.region}"], now=MADE)
    assert kinds(result) == ["StatementMismatch"]


def test_one_version_that_cannot_be_had_hides_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the library of S3 raises an error of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    desk.release(desk.approved())
    client = MlflowClient(desk.registry.tracking_uri, desk.registry.tracking_uri)
    client.create_model_version(desk.name, "s3://bucket/model")
    result = desk.audited(everything=True)
    assert [[failure.kind for _, failure in version.all_findings()] for version in result.versions] == [
        [],
        ["RegistryError"],
    ]


def test_results_are_read_from_the_bundle_wherever_a_manifest_says_they_are(desk: Desk, tmp_path: Path) -> None:
    """A manifest that somebody rewrote must not lead an audit to a file that never ends."""
    desk.release(desk.approved())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = stored(desk) / "data/bundle/manifest.json"
    document = json.loads(path.read_bytes())
    document["engines"][0]["evaluation"]["results"]["uri"] = str(pipe)
    path.write_bytes(canonical_json(document))
    assert kinds(desk.audited()) == ["AliasMoved", "StatementMismatch"]


def of_another_engine(desk: Desk) -> Callable[[ApprovedEngine], ApprovedEngine]:
    other = desk.bundles.attestation(desk.bundles.artifact(desk.region, content=b"another engine"))
    return lambda approved: approved.model_copy(update={"attestation": other})


def counted_otherwise(desk: Desk) -> Callable[[ApprovedEngine], ApprovedEngine]:
    def change(approved: ApprovedEngine) -> ApprovedEngine:
        told = approved.attestation.model_copy(update={"executed": {Execution.FP32: 40}})
        return approved.model_copy(update={"attestation": told})

    return change


@pytest.mark.parametrize("attested", [of_another_engine, counted_otherwise])
def test_an_attestation_that_its_layers_do_not_bear_out_is_reported(
    desk: Desk, attested: Callable[[Desk], Callable[[ApprovedEngine], ApprovedEngine]]
) -> None:
    desk.release(desk.approved(change=attested(desk)))
    assert kinds(desk.audited()) == ["IntegrityError"]
