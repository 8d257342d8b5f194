"""`show` finds an engine wherever it lies, reads every byte of it, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from regiolect.cli.engine_facts import EngineView, find_engine
from regiolect.contracts import Decision
from regiolect.engines.catalog import backend
from regiolect.errors import IntegrityError, StorageError, UnknownModel, UsageError
from regiolect.host.gpu import gpu
from regiolect.planning import OUTCOMES
from regiolect.registry import Registry
from regiolect.settings import Settings
from regiolect.signing.keyring import Keyring
from tests.flows.tiny_models import ADDRESS, WORKSHOP, Workshop

GOLDEN = Path(__file__).parents[2] / "golden" / "bundle_v1"
GUIDE = Path(__file__).parents[3] / "docs" / "consumers.md"


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Settings(home=tmp_path / "home")


@pytest.fixture
def kept(bundles, settings):
    """Bundles whose store is that of the settings."""
    return dataclasses.replace(bundles, store=settings.store())


def _facts(view: EngineView) -> dict[str, str]:
    return {name: fact for name, fact in view.facts if name}


def _keep(kept, decision: Decision = Decision.APPROVED):
    outcome = kept.outcome(kept.artifact(), decision)
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    return outcome, outcome.build_key.removeprefix("sha256:")[:12]


def test_by_build_key_every_byte_is_verified(kept, settings):
    outcome, key = _keep(kept)
    facts = _facts(find_engine(key, settings))
    assert facts["bytes"] == "engine and results verified against their digests"
    assert facts["build key"] == outcome.build_key
    assert facts["decision"] == "approved"


@pytest.mark.parametrize("place", ["store", "bundle"])
def test_what_was_fused_and_how_strongly_it_is_known_is_told(kept, settings, tmp_path, place):
    kept.write(tmp_path / "bundle")
    facts = _facts(find_engine(_keep(kept)[1] if place == "store" else "bundle", settings))
    assert facts["executes"] == "FP32 2 (from a test)"
    told, where = facts["layers"].split("; by name in ")
    assert told == "3 graph nodes in 2 kernels; each kernel names the type that it computes in"
    path = Path(where) if place == "store" else tmp_path / "bundle" / where
    assert "stem/Relu" in path.read_text()


def test_an_engine_from_before_there_were_layers_is_still_shown(kept, settings):
    outcome = kept.outcome(kept.artifact())
    older = outcome.attestation.model_copy(update={"layers": None, "strength": None})
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome.model_copy(update={"attestation": older}))
    facts = _facts(find_engine(outcome.build_key, settings))
    assert facts["executes"] == "FP32 2 (from a test)"
    assert "layers" not in facts


@pytest.mark.parametrize("part", ["engine", "results", "layers"])
def test_by_build_key_changed_bytes_are_refused(kept, settings, part):
    outcome, key = _keep(kept)
    blob = {
        "engine": outcome.engine.files[0].blob,
        "results": outcome.evaluation.results,
        "layers": outcome.attestation.layers,
    }[part]
    path = kept.store.path_of(blob)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(IntegrityError):
        find_engine(key, settings)
    path.unlink()
    with pytest.raises(StorageError):
        find_engine(key, settings)


def test_an_outcome_without_an_engine_claims_no_bytes(kept, settings):
    _, key = _keep(kept, Decision.REFUSED)
    facts = _facts(find_engine(key, settings))
    assert facts["decision"] == "refused"
    assert "bytes" not in facts


def test_a_typo_is_named_and_leaves_nothing_behind(settings, tmp_path):
    for name in ("typo", "tiny-eu@champion", "./no/such/folder", "models:/tiny-eu", "@champion", "..", ""):
        with pytest.raises(UsageError, match="nothing called"):
            find_engine(name, settings)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_hides_no_registered_engine(kept, settings, tmp_path):
    (tmp_path / "tiny-eu").mkdir()
    with pytest.raises(UsageError, match=r"a folder without manifest\.json"):
        find_engine("tiny-eu", settings)
    manifest = kept.write(tmp_path / "bundle")
    Registry(settings.tracking_uri, settings.artifact_root).register(tmp_path / "bundle", manifest, champion=True)
    for name in ("tiny-eu", "tiny-eu@champion", "models:/tiny-eu@champion"):
        facts = _facts(find_engine(name, settings))
        assert facts["engine"] == "models:/tiny-eu/1"
        assert facts["bytes"] == "verified against the manifest"
        assert facts["champion"] == "made by a release, signed"
    for name in ("tiny-na", "tiny-eu@previous", "./tiny-eu", "..", "@champion"):
        with pytest.raises(UsageError, match="nothing called"):
            find_engine(name, settings)


def test_a_bundles_folder_is_verified(kept, settings, tmp_path):
    kept.write(tmp_path / "bundle")
    assert _facts(find_engine("bundle", settings))["engine"] == str(Path("bundle").absolute())
    (tmp_path / "bundle/engines/cpu/engine.onnx").write_bytes(b"other!")
    with pytest.raises(IntegrityError):
        find_engine("bundle", settings)


def test_who_signed_is_told_and_whether_they_are_trusted_here(kept, settings, tmp_path):
    kept.write(tmp_path / "bundle")
    assert re.fullmatch(
        r"by tests \([0-9a-f]{12}\) on .* UTC, trusted here", _facts(find_engine("bundle", settings))["signed"]
    )
    elsewhere = settings.model_copy(update={"trust": tmp_path / "absent.json"})
    assert "NOT TRUSTED HERE: NoTrust" in _facts(find_engine("bundle", elsewhere))["signed"]
    Keyring.at(tmp_path / "key.pem", tmp_path / "absent.json").create("others")
    assert "NOT TRUSTED HERE: UnknownKey" in _facts(find_engine("bundle", elsewhere))["signed"]
    shutil.copytree(GOLDEN, tmp_path / "old")
    assert "NOT TRUSTED HERE: UnsignedEngine" in _facts(find_engine("old", settings))["signed"]


def test_whether_each_engine_runs_on_this_host_is_told(kept, settings):
    here = dict(backend("onnxruntime").fingerprint())
    own = kept.artifact().model_copy(update={"fingerprint": here, "backend_version": here["version"]})
    other = kept.artifact(target="edge", content=b"other").model_copy(
        update={"fingerprint": {**here, "cpu": "AMD Opteron 244"}, "backend_version": here["version"]}
    )
    later = kept.artifact(target="later", backend="quantum", content=b"later")
    kept.write(Path("bundle"), own, other, later)
    fits, runs, stopped = [fact for name, fact in find_engine("bundle", settings).facts if name == "this host"]
    assert fits == "fits here"
    assert runs.startswith(f"runs here, measured on another host: cpu AMD Opteron 244 there, {here['cpu']} here; pool")
    assert stopped.startswith("does not run here: backend quantum needed, Regiolect ")
    assert "the engine for cpu runs here" in stopped
    outcome = kept.outcome(other)
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    assert _facts(find_engine(outcome.build_key, settings))["this host"] == runs


@pytest.mark.parametrize("place", ["store", "bundle"])
def test_another_regions_engine_is_shown_and_told_to_be_refused_here(kept, settings, place):
    kept.write(Path("bundle"))
    name = _keep(kept)[1] if place == "store" else "bundle"
    told = [fact for _, fact in find_engine(name, settings.model_copy(update={"region": "na"})).facts]
    (refused,) = [fact for fact in told if fact.startswith("REFUSED HERE")]
    assert "models:/tiny-na@champion" in refused
    own = [fact for _, fact in find_engine(name, settings.model_copy(update={"region": "eu"})).facts]
    assert not [fact for fact in own if fact.startswith("REFUSED HERE")]


def test_the_registrys_password_is_not_shown(settings, tmp_path):
    guarded = Settings(home=tmp_path / "home", mlflow_tracking_uri="http://me:secret@127.0.0.1:9")
    with pytest.raises(UsageError) as caught:
        find_engine("./nothing", guarded)
    assert "http://me:***@127.0.0.1:9" in str(caught.value)


@pytest.mark.skipif(gpu() is not None, reason="the guide's host has no GPU")
def test_the_guide_shows_what_is_shown(kept, settings, tmp_path):
    """What differs is this machine's processor, and the libraries' versions."""
    here = backend("openvino").fingerprint()["cpu"]
    engines = []
    for target, name, told in (
        ("gpu-rtx", "tensorrt-rtx", {}),
        ("cpu-epyc", "openvino", {"cpu": "AMD EPYC 7763"}),
        ("cpu-x86", "onnxruntime", {}),
    ):
        like_here = {"fingerprint": {**backend(name).fingerprint(), **told}, "backend_version": backend(name).version()}
        engines.append(kept.artifact(target=target, backend=name).model_copy(update=like_here))
    kept.write(tmp_path / "bundle", *engines)
    shown = [fact for name, fact in find_engine("bundle", settings).facts if name == "this host"]
    guide = " ".join(GUIDE.read_text().split())
    assert len(shown) == 3
    for fact in shown:
        assert f"this host {fact.replace(f'{here} here', 'AMD EPYC here')}" in guide


def test_by_build_key_an_engine_is_found_in_its_regions_own_store(bundles, settings, tmp_path):
    parted = settings.model_copy(update={"store_location": str(tmp_path / "stores" / "{region}")})
    kept = dataclasses.replace(bundles, store=parted.store("eu"))
    outcome, key = _keep(kept)
    assert _facts(find_engine(key, parted))["build key"] == outcome.build_key
    assert sorted(path.name for path in (tmp_path / "stores").iterdir()) == ["eu", "shared"], "it makes no stores"
    with pytest.raises(UsageError, match="nothing called 'abcdef123456'"):
        find_engine("abcdef123456", parted)


def test_by_build_key_an_engine_is_found_whose_region_has_no_policy_any_more(bundles, settings, tmp_path, monkeypatch):
    """As the plan that retires it finds it: by the model, which still has the region's data."""
    workshop = Workshop(tmp_path)
    workshop.model.write_bytes(b"weights")
    for region in ("east", "north"):
        workshop.add(region)
    monkeypatch.setenv(WORKSHOP, str(workshop.folder))
    places = {"store_location": str(tmp_path / "stores" / "{region}"), "policies": workshop.policies}
    parted = settings.model_copy(update={**places, "models": ADDRESS})
    kept = dataclasses.replace(bundles, store=parted.store("north"))
    outcome = kept.outcome(kept.artifact("north"))
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    (workshop.policies / "north.yaml").unlink()
    facts = _facts(find_engine(outcome.build_key, parted))
    assert facts["region"].startswith("north") and facts["bytes"].startswith("engine and results verified")
    # Whose model is not known, or cannot be loaded, is not said to be nowhere without a word of why.
    with pytest.raises(UsageError, match="name its model in REGIOLECT_MODELS"):
        find_engine(outcome.build_key, parted.model_copy(update={"models": ""}))
    with pytest.raises(UnknownModel, match="no_such_module"):
        find_engine(outcome.build_key, parted.model_copy(update={"models": "no_such_module:MODEL"}))


def test_a_store_that_is_closed_hides_no_engine_of_another_and_is_told_where_none_has_it(bundles, settings, tmp_path):
    parted = settings.model_copy(update={"store_location": str(tmp_path / "stores" / "{region}")})
    outcome, key = _keep(dataclasses.replace(bundles, store=parted.store("na")))
    # Another region's store in the place of this one.
    shutil.copytree(tmp_path / "stores" / "na", tmp_path / "stores" / "eu")
    assert _facts(find_engine(key, parted))["build key"] == outcome.build_key
    with pytest.raises(StorageError, match="eu"):
        find_engine("abcdef123456", parted)
