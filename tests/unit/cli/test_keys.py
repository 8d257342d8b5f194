"""`regiolect keys`: a life of a key, by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regiolect.cli.keys import keys_app
from regiolect.errors import NoTrust, UsageError
from regiolect.signing.trust import load_trust


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGIOLECT_SIGNING_KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("REGIOLECT_TRUST", str(tmp_path / "trust.json"))


def _keys(*arguments: str) -> str:
    done = CliRunner().invoke(keys_app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_key_is_made_rotated_and_revoked(tmp_path: Path) -> None:
    with pytest.raises(NoTrust, match="regiolect keys create"):
        _keys("list")
    said = _keys("create", "--comment", "release of eu")
    (first,) = load_trust(tmp_path / "trust.json").keys
    assert first.keyid in said
    assert str(tmp_path / "key.pem") in said
    assert str(tmp_path / "trust.json") in said
    with pytest.raises(UsageError):
        _keys("create")
    _keys("rotate")
    assert "laptop stolen" in _keys("revoke", first.short, "--reason", "laptop stolen")
    listed = _keys("list", "--json", str(tmp_path / "keys.json"))
    states = {key["keyid"]: key["state"] for key in json.loads((tmp_path / "keys.json").read_text())["keys"]}
    assert sorted(states.values()) == ["active", "revoked"]
    (signs,) = (line for line in listed.splitlines() if line.startswith("signs"))
    assert "active" in signs
    active = next(keyid for keyid, state in states.items() if state == "active")
    assert "retired" in _keys("retire", active[:8])


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    said = _keys("create") + _keys("list") + _keys("rotate")
    private = (tmp_path / "key.pem").read_text().splitlines()[1]
    assert private not in said


def test_a_reason_is_needed_to_revoke() -> None:
    _keys("create")
    assert CliRunner().invoke(keys_app, ["revoke", "abcd"]).exit_code == 2
