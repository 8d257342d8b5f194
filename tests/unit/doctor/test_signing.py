"""What `regiolect doctor` says of the signing key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regiolect.doctor.finding import Check, Finding
from regiolect.doctor.signing import keys
from regiolect.settings import Settings
from regiolect.signing.keyring import Keyring


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, signing_key=tmp_path / "key.pem", trust=tmp_path / "trust.json")


def _found(settings: Settings) -> Finding:
    (finding,) = Check("signing key", lambda: keys(settings)).findings()
    return finding


def test_a_key_that_counts_is_well(settings: Settings) -> None:
    made = settings.keyring().create("")
    finding = _found(settings)
    assert (finding.verdict, finding.found) == ("ok", made.short)


def test_none_by_default_is_a_note_and_none_where_one_is_named_is_wrong(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    assert _found(Settings(home=tmp_path)).verdict == "note"
    finding = _found(settings)
    assert finding.verdict == "wrong"
    assert "regiolect keys create" in finding.remedy


def test_a_consumer_needs_no_key(settings: Settings, tmp_path: Path) -> None:
    Keyring.at(tmp_path / "elsewhere.pem", settings.trust).create("")
    finding = _found(settings)
    assert finding.verdict == "note"
    assert "keys trusted: 1" in finding.found


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("mode", "verdict"), [(0o604, "wrong"), (0o644, "wrong"), (0o640, "note"), (0o400, "ok")])
def test_a_key_that_others_can_read_is_not_well(settings: Settings, mode: int, verdict: str) -> None:
    settings.keyring().create("")
    assert settings.signing_key is not None
    settings.signing_key.chmod(mode)
    finding = _found(settings)
    assert finding.verdict == verdict
    assert verdict == "ok" or "chmod 600" in finding.remedy


def test_a_revoked_key_is_wrong(settings: Settings) -> None:
    made = settings.keyring().create("")
    settings.keyring().revoke(made.keyid, "stolen")
    finding = _found(settings)
    assert finding.verdict == "wrong"
    assert "RevokedKey" in finding.found
    assert "rotate" in finding.remedy
