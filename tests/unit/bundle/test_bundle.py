"""A bundle is whole, the same everywhere, and refused as soon as one byte or one file of it is another."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from regiolect.attest import read_layers
from regiolect.bundle.decisions import verify_decisions
from regiolect.bundle.manifest import MANIFEST, bundle_digest, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.bundle.write import write_bundle
from regiolect.contracts import NamedBlob
from regiolect.errors import IntegrityError, InvalidBundle
from regiolect.integrity import canonical_json, digest_bytes, digest_file
from regiolect.signing.envelope import Signing
from regiolect.storage import LocalStore

GOLDEN = Path(__file__).parents[2] / "golden" / "bundle_v1"


def test_what_was_written_reads_back_and_verifies(bundles, tmp_path):
    folder = tmp_path / "bundle"
    manifest = bundles.write(folder, bundles.artifact(), bundles.artifact(target="edge", content=b"other"))
    assert read_bundle(folder) == manifest
    verify_bundle(folder, manifest)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == [
        "attestations/cpu.json",
        "attestations/edge.json",
        "decisions/cpu.json",
        "decisions/edge.json",
        "engines/cpu/engine.onnx",
        "engines/edge/engine.onnx",
        "manifest.json",
        "policy.json",
        "results/cpu.csv",
        "results/edge.csv",
    ]
    assert (folder / "engines/edge/engine.onnx").read_bytes() == b"other"
    assert (folder / "results/cpu.csv").read_text().splitlines()[0] == "sample_id,reference,engine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".bundle")] == []


def test_equal_content_gives_equal_bytes_wherever_the_store_is(bundles, keyring, tmp_path):
    at_noon = Signing(keyring.signer(), lambda: datetime(2026, 1, 1, 12, tzinfo=UTC))
    bundles = dataclasses.replace(bundles, signing=at_noon)
    elsewhere = dataclasses.replace(bundles, store=LocalStore(tmp_path / "another" / "store"))
    first = bundles.write(tmp_path / "a")
    second = elsewhere.write(tmp_path / "b")
    assert (tmp_path / "a" / MANIFEST).read_bytes() == (tmp_path / "b" / MANIFEST).read_bytes()
    assert bundle_digest(first) == bundle_digest(second) == digest_file(tmp_path / "a" / MANIFEST)
    assert str(tmp_path) not in (tmp_path / "a" / MANIFEST).read_text()


def test_what_did_not_change_is_not_signed_again(bundles, keyring, tmp_path):
    early, late = (
        dataclasses.replace(bundles, signing=Signing(keyring.signer(), lambda at=at: datetime(2026, 1, at, tzinfo=UTC)))
        for at in (1, 2)
    )
    first = early.write(tmp_path / "first")
    assert bundle_digest(late.write(tmp_path / "night after")) == bundle_digest(first)
    (kept,) = (bundles.store.root / "records" / "signatures").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"payload", b"peyload", 1))
    anew = late.write(tmp_path / "kept signature damaged")
    assert bundle_digest(anew) != bundle_digest(first)
    assert verify_decisions(tmp_path / "kept signature damaged", anew, keyring.load_trust())["cpu"].signed.day == 2


def test_the_digest_follows_every_file(bundles, tmp_path):
    first = bundles.write(tmp_path / "a")
    second = bundles.write(tmp_path / "b", bundles.artifact(content=b"one byte more"))
    assert bundle_digest(first) != bundle_digest(second)


def _flip(folder: Path, path: str) -> None:
    data = bytearray((folder / path).read_bytes())
    data[-1] ^= 1
    (folder / path).write_bytes(bytes(data))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: _flip(folder, "engines/cpu/engine.onnx"),
        lambda folder: _flip(folder, "results/cpu.csv"),
        lambda folder: _flip(folder, "attestations/cpu.json"),
        lambda folder: (folder / "attestations/cpu.json").unlink(),
        lambda folder: (folder / "results/cpu.csv").unlink(),
        lambda folder: (folder / "engines/cpu/extra.bin").write_bytes(b""),
        lambda folder: (folder / "code").mkdir() or (folder / "code/run.py").write_text("print()"),
        lambda folder: (folder / "linked").symlink_to(folder.parent),
        lambda folder: (
            (folder / "engines/cpu/engine.onnx").rename(folder.parent / "moved")
            and (folder / "engines/cpu/engine.onnx").symlink_to(folder.parent / "moved")
        ),
    ],
    ids=[
        "engine changed",
        "results changed",
        "attestation changed",
        "attestation missing",
        "file missing",
        "file added",
        "code added",
        "folder linked",
        "file linked",
    ],
)
def test_any_difference_in_the_files_is_refused(bundles, tmp_path, harm: Callable[[Path], Any]):
    folder = tmp_path / "bundle"
    manifest = bundles.write(folder)
    harm(folder)
    with pytest.raises(IntegrityError):
        verify_bundle(folder, manifest)


def test_a_name_that_is_no_text_is_told_so_that_it_can_be_printed(bundles, tmp_path):
    manifest = bundles.write(tmp_path / "bundle")
    Path(os.fsdecode(os.fsencode(tmp_path / "bundle") + b"/\xff\x1b[31m")).write_bytes(b"")
    with pytest.raises(IntegrityError) as caught:
        verify_bundle(tmp_path / "bundle", manifest)
    assert caught.value.found.isprintable()
    assert caught.value.found.encode()


def test_a_file_that_cannot_be_read_is_refused_by_name(bundles, tmp_path, monkeypatch):
    manifest = bundles.write(tmp_path / "bundle")

    def fails(path: Path) -> BinaryIO:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("regiolect.integrity.open_file", fails)
    with pytest.raises(IntegrityError, match=r"Input/output error .*engine\.onnx"):
        verify_bundle(tmp_path / "bundle", manifest)


def _rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_bytes(canonical_json(document))


def _path(document: dict[str, Any], path: str) -> None:
    document["engines"][0]["engine"]["files"][0]["path"] = path


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format=1),
        lambda d: d.update(format=3),
        lambda d: d.update(extra=1),
        lambda d: d.update(region="na"),
        lambda d: d.update(engines=[]),
        lambda d: d.update(engines=d["engines"] * 2),
        lambda d: d["engines"][0]["decision"].update(outcome="failed"),
        lambda d: d["engines"][0]["attestation"].update(executed=None),
        lambda d: d["preprocessing"].update(raw_dtype="object"),
        lambda d: _path(d, "../../escaped"),
        lambda d: _path(d, "/etc/passwd"),
        lambda d: _path(d, "a/../b"),
        lambda d: _path(d, "model.pkl"),
        lambda d: _path(d, "run.py"),
        lambda d: d["attached"].pop(),
        lambda d: d["attached"][0]["blob"].update(digest=digest_bytes(b"another policy")),
        lambda d: d["attached"][1].update(path="decisions/edge.json"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundles, tmp_path, change):
    folder = tmp_path / "bundle"
    bundles.write(folder)
    _rewritten(folder, change)
    with pytest.raises(InvalidBundle):
        read_bundle(folder)


def test_a_truncated_or_absent_manifest_is_named_with_its_remedy(bundles, tmp_path):
    folder = tmp_path / "bundle"
    bundles.write(folder)
    whole = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidBundle, match="fetch the bundle again"):
        read_bundle(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(InvalidBundle, match="never finished"):
        read_bundle(folder)


def test_engines_of_another_region_are_refused_and_nothing_is_written(bundles, tmp_path):
    with pytest.raises(InvalidBundle, match="another model, region or policy"):
        bundles.write(tmp_path / "bundle", bundles.artifact("eu"), bundles.artifact("na", target="edge"))
    assert not (tmp_path / "bundle").exists()


def test_an_engine_changed_in_the_store_is_refused_and_nothing_is_written(bundles, tmp_path):
    artifact = bundles.artifact()
    bundles.store.path_of(artifact.files[0].blob).write_bytes(b"changed")
    with pytest.raises(IntegrityError):
        bundles.write(tmp_path / "bundle", artifact)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_older_bundle_is_replaced_but_nothing_else_is(bundles, tmp_path):
    folder = tmp_path / "bundle"
    bundles.write(folder, bundles.artifact(), bundles.artifact(target="edge"))
    newer = bundles.write(folder, bundles.artifact(content=b"newer"))
    verify_bundle(folder, newer)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(InvalidBundle, match="another folder"):
        bundles.write(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_engine_files_may_lie_in_folders(bundles, keyring, tmp_path):
    artifact = bundles.artifact()
    nested = artifact.model_copy(
        update={"files": (NamedBlob(path="parts/weights.bin", blob=bundles.store.put_bytes(b"w")), *artifact.files)}
    )
    manifest = write_bundle(
        tmp_path / "bundle",
        bundles.exported(),
        "eu",
        "Europe",
        bundles.policy_of("eu").canonical(),
        [bundles.approved(nested)],
        bundles.store,
        Signing(keyring.signer()),
    )
    verify_bundle(tmp_path / "bundle", manifest)
    assert (tmp_path / "bundle/engines/cpu/parts/weights.bin").read_bytes() == b"w"


def test_format_1_goes_on_loading(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(GOLDEN, folder)
    manifest = read_bundle(folder)
    verify_bundle(folder, manifest)
    assert digest_file(folder / MANIFEST) == ("sha256:3210bdbc687d8f79f24da9e97e127d03700a4fa0782ffb439d3eac8e68abc653")
    assert (manifest.name, manifest.title, manifest.preprocessing.raw_dtype) == ("tiny-eu", "Europe", "uint8")
    assert [approved.engine.request.target.name for approved in manifest.engines] == ["cpu", "edge"]
    assert manifest.engines[0].decision.loss_upper == 0.3
    assert [approved.attestation.layers for approved in manifest.engines] == [None, None]


def test_the_layers_behind_an_attestation_travel_with_it(bundles, tmp_path):
    manifest = bundles.write(tmp_path / "bundle")
    attestation = manifest.engines[0].attestation
    assert attestation.layers is not None
    assert attestation.layers.uri == "attestations/cpu.json"
    layers = read_layers(attestation, (tmp_path / "bundle" / attestation.layers.uri).read_bytes())
    assert [layer.nodes for layer in layers.engine] == [(), ("stem/Conv", "stem/Relu"), ("head/Gemm",)]
