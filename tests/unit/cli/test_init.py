"""`regiolect init`: an example that a release takes as it stands, and the next steps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.contracts import Split
from regiolect.data import model_inputs
from regiolect.errors import UsageError
from regiolect.planning import load_model_spec
from regiolect.policy import PolicyBook
from regiolect.settings import PROJECT_FILE, QUIET, Settings, load_settings, variable
from tests.tiny_graph import averaged


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*QUIET, "PREFECT_HOME", "MLFLOW_TRACKING_URI", PROJECT_FILE, *map(variable, Settings.model_fields)]:
        # Set before it is deleted, so that what a command puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "models", raising=False)
    monkeypatch.chdir(tmp_path)


def said(*arguments: str) -> str:
    return CliRunner().invoke(app, ["init", *arguments], catch_exceptions=False).stdout


def test_the_example_is_a_model_that_is_right_with_data_and_policies_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cd shop\n         regiolect plan" in said("shop")
    monkeypatch.chdir(tmp_path / "shop")
    settings = load_settings()
    spec, book = load_model_spec(str(settings.model)), PolicyBook(settings.policies)
    assert spec.name == "shop"
    assert "SIMULATED" in spec.note
    session = onnxruntime.InferenceSession(spec.loader)
    for policy in book.all():
        source = spec.region_data(policy.region)
        for split, least in policy.samples.by_split().items():
            assert len(source.load(split)) >= least
        samples = source.load(Split.GATE)
        mean, std = (getattr(samples.inputs["image"], each)() for each in ("mean", "std"))
        assert source.declared.mean[0] < mean < source.declared.mean[1]
        assert source.declared.std[0] < std < source.declared.std[1]
        answers = dict(zip(spec.outputs, session.run(None, model_inputs(samples, spec.preprocessing)), strict=True))
        assert spec.metrics[policy.accuracy.metric](answers, samples.targets).mean() > 0.95


def test_around_a_model_the_lines_to_fill_in_are_told_and_nothing_of_it_runs(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(averaged(np.ones((1, 3), np.float32)))
    printed = said("--from", "net.onnx")
    assert "fill in  models.py, line " in printed
    assert "python prepare.py" in printed
    assert not (tmp_path / "data").exists()
    with pytest.raises(UsageError, match="nothing is overwritten"):
        said("--from", "net.onnx")
