"""Keys: made once, readable by their owner alone, put in place of each other without a moment in which none counts."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from regiolect.errors import (
    InvalidSigningKey,
    NoSigningKey,
    NoTrust,
    RetiredKey,
    RevokedKey,
    StorageError,
    UnknownKey,
    UsageError,
)
from regiolect.signing.keyring import Keyring
from regiolect.signing.keys import load_key
from regiolect.signing.trust import KeyState, Trust, load_trust, write_trust


@pytest.fixture
def named(tmp_path: Path) -> Keyring:
    return Keyring.at(tmp_path / "secret" / "key.pem", tmp_path / "public" / "trust.json")


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """A user who set nothing up."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    return Keyring.of_environment()


def _silent(_: str) -> None:
    """Nobody listens."""


def test_a_new_key_is_its_owners_alone_and_trusted(named: Keyring) -> None:
    made = named.create("release of eu")
    assert stat.S_IMODE(named.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(named.key.parent.stat().st_mode) == 0o700
    assert [path.name for path in named.key.parent.iterdir()] == ["key.pem"]
    assert named.signer().public_key.keyid == made.keyid
    assert (made.comment, made.state) == ("release of eu", KeyState.ACTIVE)
    private = load_key(named.key).private_bytes.decode().splitlines()[1]
    assert private not in named.trust.read_text(), "the trust file is handed to others"


def test_a_key_is_never_overwritten(named: Keyring) -> None:
    named.create("")
    before = named.key.read_bytes()
    with pytest.raises(UsageError, match="keys rotate"):
        named.create("")
    assert named.key.read_bytes() == before


def test_a_key_that_is_there_is_only_added_to_a_new_trust_file(named: Keyring) -> None:
    first = named.create("")
    named.trust.unlink()
    with pytest.raises(NoTrust):
        named.signer()
    assert named.create("").keyid == first.keyid


def test_of_many_that_make_the_first_key_at_once_one_does(nothing: Keyring) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = {signer.public_key.keyid for signer in pool.map(lambda _: nothing.ready(_silent), range(8))}
    assert keys == {key.keyid for key in nothing.load_trust().keys}
    assert len(keys) == 1


def test_the_first_release_makes_a_key_and_says_so_once(nothing: Keyring) -> None:
    said: list[str] = []
    keyid = nothing.ready(said.append).public_key.keyid
    assert nothing.ready(said.append).public_key.keyid == keyid
    assert len(said) == 1
    assert keyid[:12] in said[0]


@pytest.mark.parametrize("variable", ["REGIOLECT_SIGNING_KEY", "REGIOLECT_TRUST"])
def test_where_a_file_is_named_nothing_is_made(
    nothing: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "named"))
    with pytest.raises(NoSigningKey, match="regiolect keys create"):
        Keyring.of_environment().ready(_silent)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_variable_names_no_file(nothing: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_TRUST", "")
    assert Keyring.of_environment() == nothing


def test_rotating_retires_the_old_key_and_leaves_one_file(named: Keyring) -> None:
    first = named.create("release")
    made, old = named.rotate("")
    assert old is not None
    assert (old.keyid, old.state, made.comment) == (first.keyid, KeyState.RETIRED, "release")
    assert named.signer().public_key.keyid == made.keyid != first.keyid
    assert {key.keyid: key.state for key in named.load_trust().keys} == {
        first.keyid: KeyState.RETIRED,
        made.keyid: KeyState.ACTIVE,
    }
    assert [path.name for path in named.key.parent.iterdir()] == ["key.pem"]


@pytest.mark.parametrize(("end", "error"), [("retire", RetiredKey), ("revoke", RevokedKey)])
def test_a_key_that_no_longer_counts_signs_no_more_until_it_is_rotated(
    named: Keyring, end: str, error: type[Exception]
) -> None:
    first = named.create("")
    ended = named.retire(first.keyid[:6]) if end == "retire" else named.revoke(first.keyid, "stolen")
    with pytest.raises(error, match="keys rotate"):
        named.signer()
    _, old = named.rotate("")
    assert old == ended, "a revoked key stays revoked"
    named.signer()


def test_a_key_is_named_by_enough_digits(named: Keyring) -> None:
    made = named.create("")
    for start in ("", made.keyid[:3], "0" * 12):
        with pytest.raises(UsageError, match=made.short):
            named.revoke(start, "a mistake")
    named.revoke(made.keyid[:4], "stolen")
    with pytest.raises(UsageError, match="stolen"):
        named.revoke(made.keyid, "again")
    with pytest.raises(UsageError, match="revoked"):
        named.retire(made.keyid)


def test_a_key_that_the_trust_file_does_not_name_signs_nothing(named: Keyring) -> None:
    named.create("")
    write_trust(named.trust, Trust())
    with pytest.raises(UnknownKey, match="regiolect keys create"):
        named.signer()


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_named_and_not_shown(named: Keyring, content: bytes) -> None:
    named.create("")
    named.key.write_bytes(content)
    with pytest.raises(InvalidSigningKey) as caught:
        named.signer()
    assert "AAAA" not in str(caught.value)


def test_a_key_of_another_kind_is_refused(named: Keyring) -> None:
    named.create("")
    other = generate_private_key(65537, 2048)
    named.key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InvalidSigningKey, match="another kind"):
        named.signer()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for keyring in (
        Keyring.at(tmp_path / "file" / "key.pem", tmp_path / "trust.json"),
        Keyring.at(tmp_path / "key.pem", tmp_path / "file" / "trust.json"),
    ):
        with pytest.raises(StorageError):
            keyring.create("")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"state": "active"', '"state": "retired"'),
        ('"scheme": "ed25519"', '"scheme": "none"'),
        ("}", ""),
    ],
)
def test_a_trust_file_that_is_not_right_trusts_nobody(named: Keyring, old: str, new: str) -> None:
    named.create("")
    text = named.trust.read_text()
    assert old in text
    named.trust.write_text(text.replace(old, new))
    with pytest.raises(NoTrust):
        load_trust(named.trust)


def test_a_key_under_the_id_of_another_is_refused(named: Keyring, tmp_path: Path) -> None:
    made = named.create("")
    other = Keyring.at(tmp_path / "other.pem", tmp_path / "other.json").create("")
    named.trust.write_text(named.trust.read_text().replace(made.public, other.public))
    with pytest.raises(NoTrust, match="is not the id"):
        named.load_trust()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_trust_file_can_be_read_by_everybody(named: Keyring) -> None:
    named.create("")
    assert stat.S_IMODE(named.trust.stat().st_mode) == 0o644
