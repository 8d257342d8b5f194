"""A study from end to end on a tiny model: what it measures, what it leaves alone, and what it refuses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from regiolect.cli.study import study_app
from regiolect.contracts import DEFAULT_METHOD, CalibrationMethod, Split
from regiolect.data import RegionSource, Samples
from regiolect.engines.catalog import backend
from regiolect.errors import (
    EmptyDataset,
    ForeignSamples,
    InvalidModelSpec,
    InvalidSetting,
    NotRunnableHere,
    TooFewSamples,
    UnknownBackend,
    UnknownRegion,
)
from regiolect.model import ModelSpec
from regiolect.policy import PolicyBook
from regiolect.study import StudyResult, Verdict, run_study
from tests.flows.tiny_models import ADDRESS, WORKSHOP, Workshop


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Its own temporary folder, so that a test sees what a study leaves in it and waits for no other build's lock.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    for name in ("PREFECT_HOME", "REGIOLECT_POLICIES", "REGIOLECT_STORE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))


def darker(samples: Samples) -> Samples:
    return replace(samples, inputs={name: array // 30 for name, array in samples.inputs.items()})


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Two regions; the images of `night` have a thirtieth of the brightness of those of `day`."""
    made = Workshop(tmp_path)
    made.write_model()
    for region in ("day", "night"):
        made.write_data(region, selection=120)
        made.write_policy(region)
    for split in Split:
        made.change("night", split, darker)
    monkeypatch.setenv(WORKSHOP, str(tmp_path))
    return made


def run(workshop: Workshop, spec: ModelSpec | None = None, **options: Any) -> StudyResult:
    chosen = {"seeds": 2, "samples": 20, "method": CalibrationMethod.MINMAX, **options}
    return run_study(spec or workshop.spec(), PolicyBook(workshop.policies), **chosen)


@dataclass(frozen=True)
class Guarded:
    """A source whose gate set must stay closed; remembers what was read."""

    source: RegionSource
    read: list[Split] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def load(self, split: Split) -> Samples:
        assert split is not Split.GATE, "a study opened the gate set"
        self.read.append(split)
        return self.source.load(split)


def guarded(spec: ModelSpec) -> ModelSpec:
    return replace(spec, data={region: Guarded(source) for region, source in spec.data.items()})


def test_harm_is_one_way_and_gate_sets_stay_closed(workshop: Workshop, tmp_path: Path) -> None:
    result = run(workshop, guarded(workshop.spec()))
    harmed, harmless = result.saving("night", "day"), result.saving("day", "night")
    assert harmed is not None and harmless is not None
    assert harmed.verdict is Verdict.LOCAL and harmed.saving > 20
    assert abs(result.cell("day", "day").loss) < 3
    assert harmless.saving < 5 < harmed.saving
    assert result.regions[0].reference_score > 0.8
    assert any("INT8" in each for each in result.executed)
    assert not (tmp_path / "home").exists(), "a study keeps nothing in a region's store"
    assert not list((tmp_path / "scratch").glob("regiolect-study-*")), "nor among temporary files"


def test_the_same_seeds_give_the_same_figures(workshop: Workshop) -> None:
    one, other = run(workshop), run(workshop, seeds=3)
    for before, after in zip(one.cells, other.cells, strict=True):
        assert before.losses == after.losses[:2]
    assert other.seeds == (0, 1, 2)


def test_other_backends_and_methods_are_studied_too(workshop: Workshop) -> None:
    result = run(workshop, backend="onnxruntime", method=CalibrationMethod.PERCENTILE)
    assert (result.backend, result.method) == ("onnxruntime", "percentile")
    assert result.cell("night", "day").loss > 20


def test_the_command_prints_the_matrix_and_writes_the_report(workshop: Workshop, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    arguments = ["calibration", ADDRESS, "--seeds", "2", "--samples", "20", "--json", str(copy)]
    done = CliRunner().invoke(study_app, [*arguments, "--policies", str(workshop.policies)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "night against" not in done.output and "on day against night" in done.output
    result = StudyResult.model_validate_json(copy.read_text())
    assert f"[{result.cell('day', 'day').loss:+z.2f}]" in done.output
    page = Path(str(result.report))
    assert page.parent == tmp_path / "home" / "reports"
    assert sorted(path.suffix for path in page.parent.iterdir()) == [".html", ".json", ".md"]
    assert result.method is DEFAULT_METHOD


def test_a_method_that_is_none_is_refused_with_those_that_are(workshop: Workshop) -> None:
    arguments = ["calibration", ADDRESS, "--seeds", "2", "--method", "guess"]
    with pytest.raises(InvalidSetting, match="entropy, percentile"):
        CliRunner().invoke(study_app, arguments, catch_exceptions=False)


def own_ids(samples: Samples) -> Samples:
    return replace(samples, ids=np.asarray([f"day-calibration-{row:04d}" for row in range(len(samples))]))


def of_elsewhere(samples: Samples) -> Samples:
    return replace(samples, regions=np.where(np.arange(len(samples)) == 5, "night", samples.regions))


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"seeds": 1}, InvalidSetting, "at least 2 seeds"),
        ({"regions": ["day", "moon"]}, UnknownRegion, "moon"),
        ({"regions": ["day"]}, UnknownRegion, "--regions day,night"),
        ({"samples": 64}, TooFewSamples, "every draw would be the same"),
        ({"samples": None}, TooFewSamples, "--samples 32"),
        ({"samples": 0}, InvalidSetting, "at least 1 calibration sample"),
        ({"metric": "beauty"}, InvalidModelSpec, "accuracy"),
        ({"backend": "abacus"}, UnknownBackend, "abacus"),
    ],
)
def test_a_request_that_makes_no_study_is_refused_by_name(
    workshop: Workshop, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        run(workshop, **options)


@pytest.mark.parametrize(
    ("split", "change", "error", "told"),
    [
        (Split.SELECTION, lambda samples: samples.take(slice(0, 99)), TooFewSamples, "at least 100 samples"),
        (Split.SELECTION, own_ids, ForeignSamples, "120 in both|64 in both"),
        (Split.CALIBRATION, of_elsewhere, ForeignSamples, "day-calibration-0005.*night"),
    ],
)
def test_data_that_prove_nothing_are_refused_by_name(
    workshop: Workshop, split: Split, change: Callable[[Samples], Samples], error: type[Exception], told: str
) -> None:
    workshop.change("day", split, change)
    with pytest.raises(error, match=told):
        run(workshop)


def test_a_model_with_data_in_one_region_is_refused(workshop: Workshop) -> None:
    spec = workshop.spec()
    with pytest.raises(UnknownRegion, match="at least two regions"):
        run(workshop, replace(spec, data={"day": spec.data["day"]}))


def test_a_missing_set_is_refused(workshop: Workshop) -> None:
    (workshop.data("night") / "selection.npz").unlink()
    with pytest.raises(EmptyDataset, match="selection set of region 'night'"):
        run(workshop)


def test_policies_that_judge_by_different_metrics_need_a_choice(workshop: Workshop) -> None:
    workshop.write_policy("night", accuracy={"metric": "exact", "limit": 1.0})
    with pytest.raises(InvalidSetting, match="accuracy in day; exact in night"):
        run(workshop)
    assert run(workshop, metric="accuracy").metric == "accuracy"


@pytest.mark.skipif(backend("tensorrt-rtx").obstacle() is None, reason="engines of TensorRT-RTX run here")
def test_a_backend_that_builds_but_does_not_run_here_is_refused_before_any_work(workshop: Workshop) -> None:
    with pytest.raises(NotRunnableHere, match="--backend openvino"):
        run(workshop, backend="tensorrt-rtx")
