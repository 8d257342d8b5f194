"""An engine is loaded only if a trusted key signed that it was approved exactly as it is; each refusal has its name."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from regiolect.bundle.decisions import verify_decisions
from regiolect.bundle.manifest import MANIFEST, BundleManifest, decision_path, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.calibrate import table_from_bytes
from regiolect.errors import (
    NoTrust,
    RetiredKey,
    RevokedKey,
    SignatureMismatch,
    StatementMismatch,
    UnknownKey,
    UnsignedEngine,
    UntrustedEngine,
)
from regiolect.integrity import canonical_json, digest_bytes, digest_file, digest_of
from regiolect.policy import RegionPolicy
from regiolect.serving import _load_pyfunc, load_bundle
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.signing.trust import load_trust

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def own(tmp_path: Path) -> Keyring:
    """A keyring of the test's own, to be changed."""
    keyring = Keyring.at(tmp_path / "keys" / "key.pem", tmp_path / "keys" / "trust.json")
    keyring.create("own")
    return keyring


@pytest.fixture
def bundle(bundles, own: Keyring, tmp_path: Path) -> Path:
    signed = dataclasses.replace(bundles, signing=Signing(own.signer()))
    signed.write(tmp_path / "bundle", bundles.artifact(), bundles.artifact(target="edge", content=b"other"))
    return tmp_path / "bundle"


def _sealed(folder: Path) -> BundleManifest:
    """Make every digest of a bundle right again, as somebody would who changed files of it."""
    document = json.loads((folder / MANIFEST).read_text())

    def blobs(value: Any) -> Any:
        if isinstance(value, dict):
            path = folder / str(value.get("uri"))
            if {"uri", "digest", "size"} == set(value) and path.is_file():
                value.update(digest=digest_file(path), size=path.stat().st_size)
            value = list(value.values())
        for each in value if isinstance(value, list) else ():
            blobs(each)

    blobs(document)
    document["policy"] = digest_file(folder / "policy.json")
    for engine in document["engines"]:
        engine["engine"]["request"]["policy"] = document["policy"]
    (folder / MANIFEST).write_bytes(canonical_json(document))
    manifest = read_bundle(folder)
    verify_bundle(folder, manifest)
    return manifest


def _changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> BundleManifest:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_bytes(canonical_json(document))
    return _sealed(folder)


def _engine(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda document: change(document["engines"][0])


def test_who_signed_and_when_is_told(bundle: Path, own: Keyring) -> None:
    found = verify_decisions(bundle, read_bundle(bundle), own.load_trust())
    assert found.keys() == {"cpu", "edge"}
    assert found["cpu"].key.comment == "own"
    assert abs(datetime.now(UTC) - found["cpu"].signed) < timedelta(minutes=1)


def test_the_statement_is_in_toto_and_names_all_that_the_decision_rests_on(bundle: Path) -> None:
    envelope = json.loads((bundle / decision_path("cpu")).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://regiolect.dev/gate-decision/v1"
    digest = digest_file(bundle / "engines/cpu/engine.onnx").removeprefix("sha256:")
    assert statement["subject"] == [{"name": "engines/cpu/engine.onnx", "digest": {"sha256": digest}}]
    said = statement["predicate"]
    assert (said["model"], said["region"], said["target"], said["decision"]["outcome"]) == (
        "tiny",
        "eu",
        "cpu",
        "approved",
    )
    assert said["digests"]["policy"] == digest_file(bundle / "policy.json")
    assert said["digests"]["per-sample results"] == digest_file(bundle / "results/cpu.csv")


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("engines/cpu/engine.onnx", "engines/cpu/engine.onnx sha256"),
        ("results/cpu.csv", "per-sample results"),
        ("policy.json", "policy"),
    ],
)
def test_files_rewritten_with_all_digests_are_refused_by_name(
    bundle: Path, own: Keyring, file: str, named: str
) -> None:
    (bundle / file).write_bytes(b"rewritten")
    manifest = _sealed(bundle)
    with pytest.raises(StatementMismatch, match=named):
        verify_decisions(bundle, manifest, own.load_trust())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_engine(lambda e: e["decision"].update(threshold=5.0)), "decision threshold"),
        (_engine(lambda e: e["decision"].update(samples_needed=None, reasons=["because"])), "decision reasons"),
        (_engine(lambda e: e["attestation"]["executed"].update(FP32=3)), "attestation"),
        (_engine(lambda e: e["evaluation"].update(engine_score=0.9)), "evaluation"),
        (_engine(lambda e: e["evaluation"]["timing"].update(p50_ms=0.1)), "evaluation"),
        (_engine(lambda e: e["engine"]["request"].update(precision="INT8")), "engine description"),
        (_engine(lambda e: e["engine"]["request"]["profile"].update(max=64)), "engine description"),
        (_engine(lambda e: e["engine"].update(backend_version="9")), "engine description"),
        (_engine(lambda e: e["engine"]["request"]["graph"].update(digest=digest_bytes(b"INT8"))), "engine description"),
        (lambda d: d["preprocessing"].update(scale=1.0), "preprocessing"),
        (lambda d: d.update(source=digest_bytes(b"other weights")), "source"),
    ],
)
def test_a_manifest_rewritten_in_any_part_is_refused_by_name(
    bundle: Path, own: Keyring, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    manifest = _changed(bundle, change)
    with pytest.raises(StatementMismatch, match=named):
        verify_decisions(bundle, manifest, own.load_trust())


def test_a_decision_on_another_engine_is_refused(bundle: Path, own: Keyring) -> None:
    shutil.copyfile(bundle / decision_path("edge"), bundle / decision_path("cpu"))
    with pytest.raises(StatementMismatch):
        verify_decisions(bundle, _sealed(bundle), own.load_trust())


def test_a_decision_of_another_region_is_refused(bundles, bundle: Path, own: Keyring, tmp_path: Path) -> None:
    signed = dataclasses.replace(bundles, signing=Signing(own.signer()))
    signed.write(tmp_path / "na", bundles.artifact("na"), region="na")
    shutil.copyfile(tmp_path / "na" / decision_path("cpu"), bundle / decision_path("cpu"))
    with pytest.raises(StatementMismatch):
        verify_decisions(bundle, _sealed(bundle), own.load_trust())


def _payload(envelope: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda e: e.update(signatures=[]), UnsignedEngine),
        (lambda e: e["signatures"][0].update(keyid="0" * 64), UnknownKey),
        (lambda e: e["signatures"][0].update(sig=base64.b64encode(b"0" * 64).decode()), SignatureMismatch),
        (lambda e: e["signatures"][0].update(sig="not base64"), SignatureMismatch),
        (lambda e: e["signatures"].append(e["signatures"][0]), SignatureMismatch),
        (lambda e: e.update(payloadType="text/plain"), SignatureMismatch),
        (lambda e: e.update(payloadType=1), SignatureMismatch),
        (lambda e: e["signatures"][0].update(keyid=7), SignatureMismatch),
        (lambda e: e.pop("payload"), SignatureMismatch),
        (lambda e: _payload(e, lambda s: s["predicate"].update(region="na")), SignatureMismatch),
    ],
)
def test_an_envelope_changed_in_any_part_is_refused_by_its_own_error(
    bundle: Path, own: Keyring, change: Callable[[dict[str, Any]], Any], error: type[UntrustedEngine]
) -> None:
    path = bundle / decision_path("cpu")
    envelope = json.loads(path.read_text())
    change(envelope)
    path.write_bytes(canonical_json(envelope))
    with pytest.raises(error):
        verify_decisions(bundle, _sealed(bundle), own.load_trust())


HALF_A_CHARACTER = b'{"payload": "", "payloadType": "\\ud800", "signatures": [{"keyid": "\\udfff", "sig": ""}]}'


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff", b'"text"', b'{"payload": 1}', b"[" * 100_000, HALF_A_CHARACTER]
)
def test_what_is_no_envelope_is_refused(bundle: Path, own: Keyring, content: bytes) -> None:
    (bundle / decision_path("cpu")).write_bytes(content)
    with pytest.raises(SignatureMismatch):
        verify_decisions(bundle, _sealed(bundle), own.load_trust())


def test_a_signed_text_that_is_no_decision_is_refused(bundle: Path, own: Keyring) -> None:
    other = {"_type": "something", "predicateType": "else", "subject": [], "predicate": {}}
    (bundle / decision_path("cpu")).write_bytes(Signing(own.signer()).sign(other))
    with pytest.raises(StatementMismatch):
        verify_decisions(bundle, _sealed(bundle), own.load_trust())


def test_a_key_that_nobody_here_trusts_counts_nothing(bundle: Path, keyring: Keyring) -> None:
    with pytest.raises(UnknownKey, match="tests"):
        verify_decisions(bundle, read_bundle(bundle), keyring.load_trust())


def test_a_revoked_key_counts_nothing_whenever_it_signed(bundle: Path, own: Keyring) -> None:
    own.revoke(own.load_trust().keys[0].keyid, "laptop stolen")
    with pytest.raises(RevokedKey, match="laptop stolen"):
        verify_decisions(bundle, read_bundle(bundle), own.load_trust())


def test_a_retired_key_counts_for_what_it_signed_before(bundles, bundle: Path, own: Keyring, tmp_path: Path) -> None:
    signer = own.signer()
    own.rotate("")
    verify_decisions(bundle, read_bundle(bundle), own.load_trust())
    late = Signing(signer, lambda: datetime.now(UTC) + timedelta(hours=1))
    manifest = dataclasses.replace(bundles, signing=late).write(tmp_path / "late", bundles.artifact(content=b"late"))
    with pytest.raises(RetiredKey):
        verify_decisions(tmp_path / "late", manifest, own.load_trust())


def test_what_was_signed_in_the_moment_of_retirement_counts(
    bundles, bundle: Path, own: Keyring, tmp_path: Path
) -> None:
    signer = own.signer()
    own.rotate("")
    (ended,) = (key.ended for key in own.load_trust().keys if key.ended is not None)
    for moment, counts in ((ended, True), (ended + timedelta(seconds=1), False)):
        folder = tmp_path / moment.isoformat()
        signing = Signing(signer, lambda moment=moment: moment)
        artifact = bundles.artifact(content=folder.name.encode())
        manifest = dataclasses.replace(bundles, signing=signing).write(folder, artifact)
        if counts:
            verify_decisions(folder, manifest, own.load_trust())
        else:
            with pytest.raises(RetiredKey):
                verify_decisions(folder, manifest, own.load_trust())


def test_after_a_rotation_the_same_engines_are_signed_anew(bundles, bundle: Path, own: Keyring, tmp_path: Path) -> None:
    made, _ = own.rotate("")
    signed = dataclasses.replace(bundles, signing=Signing(own.signer()))
    manifest = signed.write(tmp_path / "anew")
    assert verify_decisions(tmp_path / "anew", manifest, own.load_trust())["cpu"].key.keyid == made.keyid


# ------------------------------------------------------------------------------------------- the loading path


def test_nothing_is_loaded_where_there_is_no_trust_file(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REGIOLECT_TRUST", str(tmp_path / "absent.json"))
    with pytest.raises(NoTrust, match="REGIOLECT_TRUST"):
        load_bundle(bundle)


def test_loading_refuses_every_untrusted_engine_not_only_the_first(bundle: Path, own: Keyring) -> None:
    (bundle / "engines/edge/engine.onnx").write_bytes(b"put there by hand")
    _sealed(bundle)
    with pytest.raises(StatementMismatch, match="edge"):
        load_bundle(bundle, own.load_trust())


def test_another_region_s_engines_are_not_loaded_under_this_region_s_name(
    bundle: Path, own: Keyring, tmp_path: Path, monkeypatch
) -> None:
    """MLflow notes beside the model which name it was asked for; the signature alone does not tell that."""
    monkeypatch.setenv("REGIOLECT_TRUST", str(own.trust))
    model = tmp_path / "model"
    shutil.copytree(bundle, model / "data" / "bundle")
    (model / "registered_model_meta").write_text("model_name: tiny-na\nmodel_version: '3'\n")
    with pytest.raises(StatementMismatch, match=r"tiny-na.*tiny-eu"):
        _load_pyfunc(str(model / "data" / "bundle"))


def test_format_1_is_read_and_not_loaded(tmp_path: Path, own: Keyring) -> None:
    shutil.copytree(GOLDEN / "bundle_v1", tmp_path / "old")
    assert read_bundle(tmp_path / "old").format == 1
    with pytest.raises(UnsignedEngine, match="release the region again"):
        load_bundle(tmp_path / "old", own.load_trust())


def test_a_bundle_written_back_to_format_1_is_not_loaded(bundle: Path, own: Keyring) -> None:
    for folder in ("decisions", "calibration"):
        shutil.rmtree(bundle / folder, ignore_errors=True)
    document = json.loads((bundle / MANIFEST).read_text())
    document.update(format=1, attached=[])
    (bundle / "policy.json").unlink()
    (bundle / MANIFEST).write_bytes(canonical_json(document))
    with pytest.raises(UnsignedEngine):
        load_bundle(bundle, own.load_trust())


def test_format_2_goes_on_loading(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "bundle_v2", tmp_path / "bundle")
    manifest = read_bundle(tmp_path / "bundle")
    verify_bundle(tmp_path / "bundle", manifest)
    trust = load_trust(GOLDEN / "bundle_v2_trust.json")
    found = verify_decisions(tmp_path / "bundle", manifest, trust)
    assert {target: opened.signed.isoformat() for target, opened in found.items()} == dict.fromkeys(
        ("cpu", "edge"), "2026-01-02T03:04:05+00:00"
    )
    assert digest_file(tmp_path / "bundle" / MANIFEST) == (
        "sha256:79bf9c5a4edfebcfc5fca9bd7b8c988acc1e543b40903d54e5e093ef99e33097"
    )
    table = table_from_bytes((tmp_path / "bundle/calibration/cpu.json").read_bytes())
    assert digest_of(table) == manifest.engines[0].engine.calibration
    policy = RegionPolicy.model_validate_json((tmp_path / "bundle/policy.json").read_bytes())
    assert policy.region == manifest.region
