"""`regiolect list`, and what else tells of a registry, on a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.cli.terminal import Terminal
from regiolect.errors import UsageError
from regiolect.planning import as_signed
from regiolect.registry import Registry
from regiolect.settings import Settings
from tests.conftest import POLICY
from tests.databases import Databases
from tests.unit.cli.conftest import LOOSER

Typed = Callable[..., str]


def write_policy(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "eu.yaml").write_text(text)
    return str(folder)


def test_an_empty_registry_is_no_error_and_none_is_made(typed: Typed, home: Path) -> None:
    assert typed("list").startswith("0 registered models, 0 served")
    assert not (home / "mlflow.db").exists()


@pytest.mark.slow
def test_what_is_registered_is_listed_told_by_version_and_compared(
    typed: Typed, built, home: Path, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases.put_mlflow(home)
    registry = Registry.of(Settings(home=home))
    keys = []
    for content, policy, champion in ((b"one", POLICY, True), (b"larger", LOOSER, False)):
        own, artifact = built(content, policy)
        folder = tmp_path / content.decode()
        registry.register(folder, own.write(folder, artifact), champion)
        keys.append(artifact.request.build_key)

    own_policies = write_policy(tmp_path / "policies", json.dumps(POLICY.model_dump(mode="json")))
    head, line, waits, last = typed("list", "--policies", own_policies).splitlines()
    assert head.split() == ["model", "region", "version", "precision", "backend", "since", "policy"]
    assert line.split()[:5] == ["tiny", "eu", "1", "FP32", "onnxruntime"]
    assert line.split()[-1] == "today's"
    assert waits == "models:/tiny-eu/2 waits as challenger: no reason is kept"
    assert last.startswith("1 registered model, 1 served; registry sqlite:///")
    as_signed(POLICY, Settings(home=home).store("eu"))
    clearer, looser = (
        json.dumps(policy.model_dump(mode="json"))
        for policy in (POLICY.model_copy(update={"title": "The European Union"}), LOOSER)
    )
    for text, told in ((clearer, "today's"), (looser, "changed"), ("no policy", "unusable")):
        write_policy(tmp_path / "policies", text)
        assert typed("list", "--policies", own_policies).splitlines()[1].split()[-1] == told
    (model,) = json.loads(typed("list", "--json"))["models"]
    (engine,) = model["champion"]["engines"]
    assert (model["name"], engine["build_key"], engine["decision"]) == ("tiny-eu", keys[0], "approved")

    registry.promote("tiny", "eu", "the new camera is live", "ann")
    versions = json.loads(typed("history", "models:/tiny-eu", "--json"))["versions"]
    first, second = (each["version"] for each in versions)
    assert (first["aliases"], first["champion"], first["promoted_by"]) == (["previous"], False, None)
    assert (second["aliases"], second["champion"]) == (["champion"], True)
    assert (second["promoted_by"], second["because"]) == ("ann", "the new camera is live")
    assert second["signed_by"].startswith("tests (")
    assert [each["words"] for each in versions[1]["changes"][0]["differences"]] == [
        "the policy (accuracy.limit 100 -> 99)"
    ]

    by_version, by_key = typed("diff", "tiny-eu/1", "tiny-eu@champion"), typed("diff", *keys)
    assert by_version == by_key
    assert "models:/tiny-eu/1" in typed("show", "tiny-eu/1")
    for name in ("tiny-eu/7", "tiny-eu/x", "tiny-eu@challenger"):
        with pytest.raises(UsageError, match="regiolect list or history"):
            typed("diff", "tiny-eu", name)
    with pytest.raises(UsageError, match="did you mean 'tiny-eu'"):
        typed("history", "tiny-eo")

    audited = CliRunner().invoke(app, ["audit", "--json"], catch_exceptions=False)
    assert [each["name"] for each in json.loads(audited.stdout)["versions"]] == ["tiny-eu", "tiny-eu"]

    narrow = Terminal(width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("regiolect.cli.terminal.out", lambda: narrow)
    lines = typed("list").splitlines()[:2]
    assert max(map(len, lines)) <= 80 and "onnxruntime" in lines[1]
