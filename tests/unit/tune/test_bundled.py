"""What a bundle carries of a tuning: in the manifest, as a file, and in what is signed; or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regiolect.audit.evidence import require_tuned
from regiolect.bundle.decisions import verify_decisions
from regiolect.bundle.manifest import engine_folder, read_bundle, tuning_path
from regiolect.bundle.verify import verify_bundle
from regiolect.bundle.write import write_bundle
from regiolect.contracts import ApprovedEngine, EngineArtifact, RegionOutcome
from regiolect.errors import IntegrityError
from regiolect.identity.tuning import tuning_digest
from regiolect.integrity import canonical_json, digest_of
from regiolect.registry.tags import labels, registered_engine, tunings_of
from regiolect.signing.decisions import as_written, decision_statement
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.tune.figures import tuned_engine
from regiolect.tune.journal import engine_digest
from tests.conftest import Bundles
from tests.unit.tune.conftest import Invent, Way

WAYS = (Way(10.0), Way(6.0, settings="threads=2"), Way(15.0, batch=16))


def approved(bundles: Bundles, invent: Invent, artifact: EngineArtifact) -> ApprovedEngine:
    """The engine as approved, with the tuning of an invented journal of its own."""
    of_it = {"build_key": artifact.request.build_key, "engine": engine_digest(artifact)}
    journal = invent(*WAYS).model_copy(update=of_it)
    tuning = tuned_engine(journal, bundles.store.put_bytes(canonical_json(journal)))
    return bundles.approved(artifact).model_copy(update={"tuning": tuning})


def written(folder: Path, bundles: Bundles, *engines: ApprovedEngine) -> Path:
    policy, signing = bundles.policy_of("eu").canonical(), Signing(Keyring.of_environment().signer())
    write_bundle(folder, bundles.exported(), "eu", "Europe", policy, engines, bundles.store, signing)
    return folder


def test_a_tuning_travels_is_verified_and_is_signed(bundles: Bundles, invent: Invent, tmp_path: Path) -> None:
    engine = approved(bundles, invent, bundles.artifact())
    folder = written(tmp_path / "bundle", bundles, engine)
    manifest = read_bundle(folder)
    verify_bundle(folder, manifest)
    verify_decisions(folder, manifest, Keyring.of_environment().load_trust())
    (read,) = manifest.engines
    assert read.tuning is not None
    assert read.tuning.journal.uri == tuning_path("cpu")
    assert tuning_digest(read) == tuning_digest(engine)
    require_tuned(folder, read)
    statement = decision_statement(read, manifest.source, manifest.preprocessing, engine_folder("cpu"))
    assert json.loads(canonical_json(statement))["predicate"]["digests"]["tuning"] == digest_of(as_written(read.tuning))
    version = registered_engine("tiny-eu", 1, True, labels(manifest, "sha256:" + "0" * 64))
    assert version.tuning_of(read.engine.request.build_key) == tuning_digest(engine)


def test_of_an_engine_that_was_not_tuned_nothing_is_said_anywhere(bundles: Bundles, tmp_path: Path) -> None:
    artifact = bundles.artifact()
    folder = written(tmp_path / "bundle", bundles, bundles.approved(artifact))
    manifest = read_bundle(folder)
    assert "tuning" not in (folder / "manifest.json").read_text()
    assert "tuning" not in (folder / "decisions" / "cpu.json").read_text()
    assert "tuning" not in labels(manifest, "sha256:" + "0" * 64)
    assert tunings_of(manifest) == ()
    assert "tuning" not in bundles.outcome(artifact).model_dump(mode="json")


def test_where_one_engine_of_two_was_tuned_the_other_is_told_apart(
    bundles: Bundles, invent: Invent, tmp_path: Path
) -> None:
    one, other = bundles.artifact(target="cpu"), bundles.artifact(target="edge")
    folder = written(tmp_path / "bundle", bundles, approved(bundles, invent, one), bundles.approved(other))
    version = registered_engine("tiny-eu", 1, True, labels(read_bundle(folder), "sha256:" + "0" * 64))
    assert version.tuning_of(one.request.build_key) is not None
    assert version.tuning_of(other.request.build_key) is None


@pytest.mark.parametrize("what", ["points", "journal", "engine"])
def test_points_that_do_not_follow_from_the_journal_are_found(
    what: str, bundles: Bundles, invent: Invent, tmp_path: Path
) -> None:
    engine = approved(bundles, invent, bundles.artifact())
    assert engine.tuning is not None
    if what == "points":
        faster = engine.tuning.default.model_copy(update={"p50_ms": 0.1})
        engine = engine.model_copy(update={"tuning": engine.tuning.model_copy(update={"default": faster})})
    elif what == "journal":
        other = bundles.store.put_bytes(b"{}")
        engine = engine.model_copy(update={"tuning": engine.tuning.model_copy(update={"journal": other})})
    else:
        theirs = approved(bundles, invent, bundles.artifact(content=b"another"))
        assert theirs.tuning is not None
        tuning = theirs.tuning.model_copy(update={"build_key": engine.engine.request.build_key})
        engine = engine.model_copy(update={"tuning": tuning})
    folder = written(tmp_path / "bundle", bundles, engine)
    with pytest.raises(IntegrityError, match="that gives the operating points"):
        require_tuned(folder, read_bundle(folder).engines[0])


def test_the_tuning_of_another_engine_is_refused(bundles: Bundles, invent: Invent) -> None:
    engine = approved(bundles, invent, bundles.artifact())
    other = bundles.approved(bundles.artifact(content=b"another"))
    with pytest.raises(ValueError, match="the tuning belongs to another engine"):
        ApprovedEngine.model_validate({**dict(other), "tuning": engine.tuning})


def test_outcomes_kept_before_there_was_tuning_read_as_they_were(bundles: Bundles) -> None:
    outcome = bundles.outcome(bundles.artifact())
    again = RegionOutcome.model_validate_json(canonical_json(outcome))
    assert again == outcome and again.tuning is None
