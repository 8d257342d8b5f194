"""`champion` is what a release made champion: an alias moved by hand is refused, and the next release puts it back."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from regiolect.bundle.manifest import bundle_digest
from regiolect.contracts import Blob, Decision, RegisteredEngine
from regiolect.errors import (
    AliasMoved,
    RegiolectError,
    RegistryError,
    RevokedKey,
    SignatureMismatch,
    StatementMismatch,
    UnknownKey,
)
from regiolect.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from regiolect.registry.consumer import require_promoted
from regiolect.release.publish import publish
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring

pytestmark = pytest.mark.slow

YES, NO = Decision.APPROVED, Decision.FAILED
Release = Callable[..., RegisteredEngine | None]
Load = Callable[[], None]


@pytest.fixture(scope="module")
def home(registry_home: Path) -> Path:
    return registry_home


@pytest.fixture
def own(tmp_path: Path) -> Keyring:
    keyring = Keyring.at(tmp_path / "keys" / "key.pem", tmp_path / "keys" / "trust.json")
    keyring.create("own")
    return keyring


@pytest.fixture
def registry(home: Path, own: Keyring, monkeypatch: pytest.MonkeyPatch) -> Registry:
    uri = f"sqlite:///{home / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Registry(uri, home / "artifacts", keyring=own)


@pytest.fixture
def client(registry: Registry):
    from mlflow import MlflowClient

    registry.champion("nobody", "nowhere")
    return MlflowClient(registry.tracking_uri, registry.tracking_uri)


def nothing(*compared: object) -> Blob:
    raise AssertionError("the served engine is run again")


_numbers = itertools.count()


@pytest.fixture
def region() -> str:
    return f"r{next(_numbers)}"


@pytest.fixture
def digests() -> dict[int, str]:
    """Of each version's bundle, as a consumer would compute it."""
    return {}


@pytest.fixture
def release(registry: Registry, bundles, region: str, digests: dict[int, str], tmp_path: Path) -> Release:
    def call(content: bytes, **decided: Decision) -> RegisteredEngine | None:
        decided = decided or {"cpu": YES}
        artifacts = {name: bundles.artifact(region, name, content=name.encode() + content) for name in decided}
        outcomes = [bundles.outcome(artifacts[name], decision) for name, decision in decided.items()]
        made = publish(
            bundles.exported(), outcomes, bundles.policy_of(region), bundles.store, registry, nothing
        ).champion
        approved = [artifact for name, artifact in artifacts.items() if decided[name] is YES]
        if made is not None and approved and set(made.targets) == {each.request.target.name for each in approved}:
            signed = dataclasses.replace(bundles, signing=Signing(registry.keyring.signer()))
            manifest = signed.write(tmp_path / "again", *approved, region=region)
            digests.setdefault(made.version, bundle_digest(manifest))
        return made

    return call


@pytest.fixture
def load(registry: Registry, client, own: Keyring, region: str, digests: dict[int, str]) -> Load:
    """What a consumer asks before it loads `@champion`."""

    def call() -> None:
        name = f"tiny-{region}"
        version = int(client.get_model_version_by_alias(name, CHAMPION).version)
        require_promoted(name, version, bundle=digests[version], trust=own.load_trust())

    return call


def _aliases(client, region: str) -> dict[str, int]:
    found = client.get_registered_model(f"tiny-{region}").aliases
    return {alias: int(version) for alias, version in found.items()}


def test_what_a_release_made_champion_is_loaded(release: Release, load: Load, registry: Registry, region: str) -> None:
    made = release(b"one")
    load()
    assert registry.champion("tiny", region) == made == registry.by_alias(f"tiny-{region}", CHAMPION)
    second = release(b"two")
    load()
    assert registry.champions()[f"tiny-{region}"] == second


def test_an_alias_moved_back_by_hand_is_refused_and_counts_as_no_champion(
    release: Release, load: Load, registry: Registry, client, region: str
) -> None:
    release(b"one")
    release(b"two")
    client.set_registered_model_alias(f"tiny-{region}", CHAMPION, "1")
    with pytest.raises(AliasMoved, match="moved by hand"):
        load()
    assert registry.champion("tiny", region) is None
    assert f"tiny-{region}" not in registry.champions(), "the nightly has work to do"


def test_a_challenger_made_champion_by_hand_is_refused(
    release: Release, load: Load, registry: Registry, client, region: str, digests: dict[int, str]
) -> None:
    release(b"one", a=YES, b=YES)
    release(b"two", a=YES, b=NO)
    assert _aliases(client, region) == {CHAMPION: 1, CHALLENGER: 2}
    load()
    client.set_registered_model_alias(f"tiny-{region}", CHAMPION, "2")
    digests[2] = digests[1]
    with pytest.raises(AliasMoved):
        load()


@pytest.mark.parametrize("moved", ["to the one before", "away"])
@pytest.mark.parametrize("decision", [YES, NO])
def test_the_next_release_puts_the_alias_back_and_says_so(
    release: Release, load: Load, client, region: str, caplog: pytest.LogCaptureFixture, moved: str, decision: Decision
) -> None:
    caplog.set_level(logging.INFO)
    release(b"one")
    made = release(b"two")
    if moved == "away":
        client.delete_registered_model_alias(f"tiny-{region}", CHAMPION)
    else:
        client.set_registered_model_alias(f"tiny-{region}", CHAMPION, "1")
    assert release(b"two", cpu=decision) == made
    load()
    assert _aliases(client, region)[CHAMPION] == 2
    assert ("moved by hand" in caplog.text) == (moved != "away")


def test_a_moved_alias_does_not_hold_a_release_back(release: Release, load: Load, client, region: str) -> None:
    release(b"one")
    release(b"two")
    client.set_registered_model_alias(f"tiny-{region}", CHAMPION, "1")
    assert release(b"three").version == 3
    load()
    assert _aliases(client, region) == {CHAMPION: 3, PREVIOUS: 2}, "2 was champion, not 1"


def test_a_bundle_exchanged_under_the_champion_is_refused(
    release: Release, load: Load, digests: dict[int, str]
) -> None:
    release(b"one")
    release(b"two")
    digests[2] = digests[1]
    with pytest.raises(AliasMoved, match="with the bundle"):
        load()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda mine, older: older, AliasMoved),
        (lambda mine, older: mine.replace('"payload":"', '"payload":"e30='), SignatureMismatch),
        (lambda mine, older: "nonsense", SignatureMismatch),
        (lambda mine, older: None, AliasMoved),
    ],
    ids=["another version's", "changed", "none at all", "deleted"],
)
def test_a_promotion_that_is_not_right_is_refused_by_its_own_error(
    release: Release, load: Load, client, region: str, change: Callable[..., str | None], error: type[RegiolectError]
) -> None:
    name = f"tiny-{region}"
    release(b"one")
    older = client.get_registered_model(name).tags["promotion.1"]
    release(b"two")
    tags = client.get_registered_model(name).tags
    assert {tag for tag in tags if tag.startswith("promotion")} == {"promotion.2"}, "others are forgotten"
    changed = change(tags["promotion.2"], older)
    if changed is None:
        client.delete_registered_model_tag(name, "promotion.2")
    else:
        client.set_registered_model_tag(name, "promotion.2", changed)
    with pytest.raises(error):
        load()


def test_a_promotion_by_a_key_that_does_not_count_is_refused(
    release: Release, load: Load, own: Keyring, bundles, client, region: str
) -> None:
    release(b"one")
    own.revoke(own.load_trust().keys[0].keyid, "stolen")
    with pytest.raises(RevokedKey, match="stolen"):
        load()
    with pytest.raises(RevokedKey, match="keys rotate"):
        release(b"one")
    own.rotate("")
    made = release(b"one")
    assert made.version == 2, "signed anew, so another bundle"
    load()
    assert _aliases(client, region) == {CHAMPION: 2}, "what a revoked key signed is no place to go back to"


def test_a_champion_that_a_retired_key_promoted_is_told_as_such_until_a_release_signs_anew(
    release: Release, registry: Registry, own: Keyring, region: str
) -> None:
    """A plan goes by it: what a release would sign anew is no nothing to do."""
    release(b"one")
    before = registry.champion("tiny", region)
    own.rotate("")
    after = registry.champion("tiny", region)
    assert before is not None
    assert after is not None
    assert (before.retired_key, after.version) == (None, 1)
    assert after.retired_key is not None
    made = release(b"one")
    assert made is not None
    assert (made.version, registry.champion("tiny", region).retired_key) == (2, None)


def test_a_stranger_cannot_promote(
    release: Release, load: Load, client, region: str, keyring: Keyring, digests: dict[int, str]
) -> None:
    from regiolect.signing.promotion import Promotion

    release(b"one")
    made = release(b"two")
    forged = Promotion(
        name=made.name,
        version=1,
        bundle=digests[1],
        policy=made.policy,
        targets=made.targets,
        build_keys=made.build_keys,
    )
    client.set_registered_model_tag(made.name, "promotion.1", forged.signed(Signing(keyring.signer())))
    client.set_registered_model_alias(made.name, CHAMPION, "1")
    with pytest.raises(UnknownKey):
        load()


def test_a_gate_decision_is_no_promotion(release: Release, load: Load, own: Keyring, client, region: str) -> None:
    release(b"one")
    other = Signing(own.signer()).sign({"_type": "", "subject": [], "predicateType": "", "predicate": {}}).decode()
    client.set_registered_model_tag(f"tiny-{region}", "promotion.1", other)
    with pytest.raises(StatementMismatch):
        load()


def test_tags_that_were_rewritten_do_not_make_a_champion_hold_other_engines(
    release: Release, registry: Registry, client, region: str
) -> None:
    made = release(b"one")
    client.set_model_version_tag(f"tiny-{region}", "1", "build_key", "sha256:" + "0" * 64)
    assert registry.champion("tiny", region) == made


def test_where_no_registry_answers_the_engine_is_served_with_a_warning(
    own: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in (f"sqlite:///{tmp_path / 'absent.db'}", "http://127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.warns(UserWarning, match="could not be asked"):
            require_promoted("tiny-eu", 1, bundle="sha256:" + "0" * 64, trust=own.load_trust())
    assert not (tmp_path / "absent.db").exists()


def test_where_the_registry_knows_no_such_model_the_engine_is_served_with_a_warning(own: Keyring, client) -> None:
    with pytest.warns(UserWarning, match="knows no elsewhere-eu"):
        require_promoted("elsewhere-eu", 1, bundle="sha256:" + "0" * 64, trust=own.load_trust())


def test_a_registry_that_is_there_and_does_not_tell_is_not_passed_over(
    own: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "mlflow.db"
    damaged.write_bytes(b"no database" * 1000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{damaged}")
    with pytest.raises(RegistryError):
        require_promoted("tiny-eu", 1, bundle="sha256:" + "0" * 64, trust=own.load_trust())
