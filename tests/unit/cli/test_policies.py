"""`regiolect policies diff`: words, data, exit codes, and that it stays light."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regiolect.cli.policies import policies_app
from regiolect.errors import InvalidPolicy, PolicyLoosens, UsageError
from regiolect.policy import builtin_policies
from regiolect.policy_review import PolicyReview


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The built-in policies twice: as they are, and for a test to change."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_HOME", "REGIOLECT_POLICIES", "REGIOLECT_STORE"):
        # Set before it is deleted, so that what the command puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))
    for name in ("old", "new"):
        shutil.copytree(builtin_policies(), tmp_path / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path / "old", tmp_path / "new"


def change(folder: Path, region: str, old: str, new: str) -> None:
    text = (folder / f"{region}.yaml").read_text()
    assert old in text
    (folder / f"{region}.yaml").write_text(text.replace(old, new))


def diff(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(policies_app, ["diff", *map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_equal_policies_differ_in_nothing_however_they_are_written(folders: tuple[Path, Path]) -> None:
    change(folders[1], "eu", "precision: FP16", "# a comment\nprecision: 'FP16'")
    code, said = diff(*folders)
    assert (code, said) == (0, f"{folders[0]} -> {folders[1]}: nothing differs\n")


def test_what_changes_is_told_in_words_region_by_region(folders: tuple[Path, Path]) -> None:
    old, new = folders
    change(new, "eu", "limit: 0.5", "limit: 0.4")
    change(new, "eu", "metric: accuracy", "metric: accuracy\n  confidence: 0.99")
    change(new, "jp", "Asia/Tokyo", "Asia/Seoul")
    (new / "hk.yaml").unlink()
    (new / "za.yaml").write_text((new / "na.yaml").read_text().replace("region: na", "region: za"))
    code, said = diff(old, new)
    assert code == 1
    assert said.splitlines() == [
        f"{old} -> {new}: 5 of 10 regions differ",
        "",
        "de (Germany)",
        "  tightens accuracy.confidence: 0.95 -> 0.99 (inherited from eu)",
        "",
        "eu (European Union)",
        "  tightens accuracy.limit: 0.5 -> 0.4",
        "  tightens accuracy.confidence: 0.95 -> 0.99",
        "",
        "hk (Hong Kong): removed",
        "",
        "jp (Japan)",
        "  changes  nightly.timezone: Asia/Tokyo -> Asia/Seoul",
        "  no part of what an engine is: none is concerned",
        "",
        "za (North America): added",
        "note: za is new: each model that has data of it gets an engine",
        "note: no engine of these regions is kept here, so only the policies' own differences are told",
    ]
    assert not (old.parent / "home").exists(), "a comparison writes nothing"


def test_json_is_the_same_as_data(folders: tuple[Path, Path]) -> None:
    change(folders[1], "eu", "limit: 0.5", "limit: 0.4")
    code, said = diff(*folders, "--json")
    assert code == 1
    (region,) = PolicyReview.model_validate_json(said).regions
    assert (region.region, region.change) == ("eu", "changed")
    assert json.loads(said)["regions"][0]["fields"] == [
        {"key": "accuracy.limit", "old": 0.5, "new": 0.4, "direction": "tightens", "inherited_from": None}
    ]


def test_files_are_compared_alone_and_only_with_their_own_region(folders: tuple[Path, Path]) -> None:
    old, new = folders
    change(new, "eu", "limit: 0.5", "limit: 0.4")
    change(new, "jp", "limit: 1.5", "limit: 1.4")
    assert diff(old / "eu.yaml", new / "eu.yaml")[1].splitlines()[0].endswith(": 1 of 1 region differs")
    assert "tightens accuracy.limit: 1.5 -> 1.4" in diff(old, new / "jp.yaml")[1]
    with pytest.raises(UsageError, match=r"'eu'.*'jp'"):
        diff(old / "eu.yaml", new / "jp.yaml")


def test_mistakes_end_it_and_all_of_them_are_named(folders: tuple[Path, Path]) -> None:
    old, new = folders
    change(new, "de", "limit: 0.1", "limit: 0.9")
    with pytest.raises(PolicyLoosens, match=r"line \d+: accuracy\.limit 0\.9 above 0\.5") as refused:
        diff(old, new)
    assert refused.value.exit_code == 2
    change(new, "jp", "limit:", "limt:")
    with pytest.raises(InvalidPolicy, match=r"de\.yaml:\d+: .*jp\.yaml:\d+: "):
        diff(old, new)
    with pytest.raises(UsageError, match="'nowhere'"):
        diff(old, "nowhere")


def test_it_is_cheap(folders: tuple[Path, Path]) -> None:
    change(folders[1], "eu", "limit: 0.5", "limit: 0.4")
    heavy = ("torch", "onnx", "openvino", "onnxruntime", "mlflow", "prefect", "great_expectations")
    code = (
        "import sys, regiolect.cli.app\n"
        "try:\n    regiolect.cli.app.main()\n"
        f"finally:\n    print('loaded', [name for name in {heavy} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "policies", "diff", *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"
