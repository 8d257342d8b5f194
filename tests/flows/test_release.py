"""A whole release of a tiny model: what it says, what it serves, and what it leaves alone the second time."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scipy import special, stats

from flows.release import release
from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import DEFAULT_METHOD, CalibrationMethod, Decision, ReleaseResult, ReleaseRow, Split
from regiolect.data import preprocess, read_samples
from regiolect.planning import LATEST, OUTCOMES
from regiolect.settings import load_settings
from tests.flows.kept import aliases, client, outcome_of, plan, store_folder
from tests.flows.tiny_models import ADDRESS, CPU, GPU, PORTABLE, WHITE, Workshop
from tests.patience import PATIENCE

CONSUMER = """
import sys, numpy as np, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]))["logits"])
print(sorted({"torch", "prefect", "great_expectations"} & set(sys.modules)))
"""


@dataclass(frozen=True)
class Released:
    """Two releases in a row, and what lay in store and registry after each."""

    workshop: Workshop
    first: ReleaseResult
    second: ReleaseResult
    kept: dict[Path, int]
    kept_after: dict[Path, int]
    versions: dict[str, int]
    versions_after: dict[str, int]

    def row(self, region: str, target: str = "cpu") -> ReleaseRow:
        return next(row for row in self.first.rows if (row.region, row.target) == (region, target))


@pytest.fixture(scope="module")
def released(module_workshop: Workshop) -> Released:
    """One region per precision, one with a second target that cannot run here, one that INT8 does not suit."""
    module_workshop.add("dim", faint=[Split.GATE])
    module_workshop.add("east", precision="FP16", forbidden=["INT8", "BF16"])
    module_workshop.add("north", CPU, GPU)
    module_workshop.add("south", PORTABLE)
    first = release(ADDRESS, drills=True)
    kept, versions = _kept(), _versions()
    second = release(ADDRESS, drills=True)
    return Released(module_workshop, first, second, kept, _kept(), versions, _versions())


def _kept() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store_folder().rglob("*") if path.is_file()}


def _versions() -> dict[str, int]:
    names = [model.name for model in client().search_registered_models()]
    return {name: len(client().search_model_versions(f"name = '{name}'")) for name in names}


# ---------------------------------------------------------------------------------------------------- the table


def test_every_region_and_target_has_its_row(released: Released) -> None:
    said = {(row.region, row.target): (row.precision, row.decision) for row in released.first.rows}
    assert said == {
        ("dim", "cpu"): ("INT8", Decision.FAILED),
        ("east", "cpu"): ("FP16", Decision.APPROVED),
        ("north", "cpu"): ("INT8", Decision.APPROVED),
        ("north", "gpu"): ("INT8", Decision.NOT_ATTESTED),
        ("south", "portable"): ("INT8", Decision.APPROVED),
    }
    assert all(row.rebuilt for row in released.first.rows)
    assert exit_code(released.first) == 1, "a region failed"


def test_a_gated_row_holds_the_figures_that_its_decision_rests_on(released: Released) -> None:
    for row in released.first.rows:
        if row.decision is Decision.NOT_ATTESTED:
            continue
        assert row.loss_lower is not None
        assert row.loss is not None
        assert row.loss_upper is not None
        assert row.loss_lower <= row.loss <= row.loss_upper
        assert (row.threshold, row.confidence, row.samples) == (5.0, 0.95, 400)
        assert row.speedup is not None
        assert row.speedup > 0
        served = f"models:/tiny-{row.region}@champion"
        assert row.model_uri == (served if row.decision is Decision.APPROVED else None)
    assert "INT8" in (released.row("north").executed or "")
    assert "INT8" not in (released.row("east").executed or "")


def test_a_plan_for_a_gpu_is_built_and_kept_and_never_served(released: Released) -> None:
    row = released.row("north", "gpu")
    assert (row.loss, row.speedup, row.model_uri, row.executed) == (None, None, None, "unknown")
    assert any(reason.startswith(f"graph: INT8, {DEFAULT_METHOD}, not repaired, which takes") for reason in row.reasons)
    outcome = outcome_of(row)
    assert outcome.engine is not None
    (file,) = outcome.engine.files
    assert file.path == "engine.plan"
    assert load_settings().store().path_of(file.blob).stat().st_size > 1000
    assert client().get_model_version("tiny-north", "1").tags["targets"] == "cpu"


@pytest.mark.parametrize(
    ("region", "target"), [("dim", "cpu"), ("north", "cpu"), ("north", "gpu"), ("south", "portable")]
)
def test_int8_is_calibrated_on_the_regions_own_data(released: Released, region: str, target: str) -> None:
    table = outcome_of(released.row(region, target)).calibration
    assert table is not None
    assert (table.method, table.seal.region, table.seal.samples) == (DEFAULT_METHOD, region, 64)
    own = read_samples(released.workshop.data(region) / "calibration.npz")
    kept = read_samples(store_folder() / "blobs" / table.seal.dataset[7:9] / table.seal.dataset[7:])
    assert set(kept.regions) == {region}
    np.testing.assert_array_equal(kept.ids, own.ids)
    assert list(table.seal.sample_ids) == list(own.ids)
    np.testing.assert_array_equal(kept.inputs["image"], own.inputs["image"])


def test_an_fp16_region_knows_the_whole_range_of_every_tensor(released: Released) -> None:
    table = outcome_of(released.row("east")).calibration
    assert table is not None
    assert table.method is CalibrationMethod.MINMAX
    assert {"image", "c1", "r1", "c2", "r2", "p", "logits"} <= set(table.tensors)
    assert all(each.threshold == max(-each.minimum, each.maximum) for each in table.tensors.values())


# ------------------------------------------------------------------------------------- the decision, recomputed


def _is_proven(b: int, c: int, n: int, limit: float, alpha: float) -> bool:
    """Steps 2 and 3 of `regiolect.gate`, as it documents them: no table at least as good is likely at the limit."""
    z = stats.norm.isf(alpha)
    lost, gained = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    inside = lost + gained <= n
    lost, gained = lost[inside], gained[inside]
    good = (lost - gained) + z * np.sqrt(lost + gained + z * z / 4)
    set_of_tables = good <= (b - c) + z * np.sqrt(b + c + z * z / 4) + 1e-9
    lost, gained = lost[set_of_tables], gained[set_of_tables]
    p10_most = stats.beta.isf(alpha / 10_000, b + 1, n - b) if b < n else 1.0
    p01_least = stats.beta.ppf(alpha / 10_000, c, n - c + 1) if c > 0 else 0.0
    ways = special.gammaln(n + 1) - sum(special.gammaln(k + 1) for k in (lost, gained, n - lost - gained))
    low, high = max(p01_least, -limit, 0.0), min(p10_most - limit, (1 - limit) / 2)
    rates = np.linspace(low, high, 200) if low <= high else np.empty(0)
    sums = [
        np.exp(
            ways
            + special.xlogy(lost, p01 + limit)
            + special.xlogy(gained, p01)
            + special.xlogy(n - lost - gained, max(1 - 2 * p01 - limit, 0.0))
        ).sum()
        for p01 in rates
    ]
    return max(sums, default=0.0) <= 0.9998 * alpha


def _recomputed(published: Path, limit: float, confidence: float) -> tuple[str, float, tuple[int, int, int]]:
    with published.open(newline="") as file:
        rows = list(csv.DictReader(file))
    n = len(rows)
    b = sum(row["reference"] == "1" and row["engine"] == "0" for row in rows)
    c = sum(row["reference"] == "0" and row["engine"] == "1" for row in rows)
    if _is_proven(b, c, n, limit / 100, 1 - confidence):
        return "approved", 100 * (b - c) / n, (b, c, n)
    if _is_proven(c, b, n, -limit / 100, 1 - confidence):
        return "failed", 100 * (b - c) / n, (b, c, n)
    return "inconclusive", 100 * (b - c) / n, (b, c, n)


@pytest.mark.parametrize(
    ("region", "target"), [("dim", "cpu"), ("east", "cpu"), ("north", "cpu"), ("south", "portable")]
)
def test_the_decision_is_that_of_an_independent_recomputation(
    released: Released, region: str, target: str, tmp_path: Path
) -> None:
    row = released.row(region, target)
    evaluation = outcome_of(row).evaluation
    assert evaluation is not None
    published = load_settings().store().path_of(evaluation.results)
    if row.decision is Decision.APPROVED:
        version = client().get_model_version_by_alias(f"tiny-{region}", "champion")
        inside = f"model/data/bundle/results/{row.slot}.csv"
        published = Path(client().download_artifacts(version.run_id, inside, str(tmp_path)))
    assert row.threshold is not None
    assert row.confidence is not None
    assert row.loss_upper is not None
    decision, loss, (b, c, n) = _recomputed(published, row.threshold, row.confidence)
    assert decision == row.decision.value
    assert loss == pytest.approx(row.loss)
    # The published bound is the limit at which the answer turns, to a hundredth of a point.
    alpha = 1 - row.confidence
    assert _is_proven(b, c, n, (row.loss_upper + 0.01) / 100, alpha)
    assert not _is_proven(b, c, n, (row.loss_upper - 0.01) / 100, alpha)


def test_the_scores_are_those_of_the_models_own_graph(released: Released) -> None:
    """The reference column, recomputed from the user's files with nothing of ours but the preprocessing's formula."""
    evaluation = outcome_of(released.row("north")).evaluation
    assert evaluation is not None
    with load_settings().store().path_of(evaluation.results).open(newline="") as file:
        rows = list(csv.DictReader(file))
    samples = read_samples(released.workshop.data("north") / "gate.npz")
    session = onnxruntime.InferenceSession(released.workshop.model, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": (samples.inputs["image"] / WHITE / 0.5).astype(np.float32)})[0]
    right = (logits.argmax(axis=1) == samples.targets).astype(int)
    assert [row["sample_id"] for row in rows] == samples.ids.tolist()
    assert [int(row["reference"]) for row in rows] == right.tolist()


# ---------------------------------------------------------------------------------------------------- serving


def test_a_fresh_process_loads_the_champion_and_agrees_with_the_reference(released: Released, tmp_path: Path) -> None:
    images = read_samples(released.workshop.data("north") / "gate.npz").inputs["image"]
    np.save(tmp_path / "in.npy", images)
    command = [sys.executable, "-c", CONSUMER, "models:/tiny-north@champion"]
    done = subprocess.run(
        [*command, str(tmp_path / "in.npy"), str(tmp_path / "out.npy")],
        env={**os.environ, "MLFLOW_TRACKING_URI": released.first.tracking_uri},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "a consumer needs no orchestrator"
    session = onnxruntime.InferenceSession(released.workshop.model, providers=["CPUExecutionProvider"])
    prepared = preprocess(images, released.workshop.preprocessing)
    reference = session.run(None, {"image": prepared})[0].argmax(axis=1)
    answers = np.load(tmp_path / "out.npy")
    assert answers.shape == (400, 4)
    assert (answers.argmax(axis=1) == reference).mean() > 0.9


def test_the_report_is_one_file_and_its_figures_lie_beside_it(released: Released) -> None:
    assert released.first.report is not None
    report = Path(released.first.report)
    page = report.read_text()
    assert {"Dim", "East", "North", "South"} <= set(re.findall(r"\w+", page))
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\((?!["']?data:)""", page), (
        "complete without a network"
    )
    beside = ReleaseResult.model_validate_json(report.with_suffix(".json").read_text())
    assert beside == released.first


# --------------------------------------------------------------------------------------------------- again


def test_the_second_run_builds_nothing_and_says_so(released: Released) -> None:
    assert not any(row.rebuilt for row in released.second.rows)
    first, second = (
        [row.model_dump(exclude={"rebuilt"}) for row in result.rows] for result in (released.first, released.second)
    )
    assert second == first, "same figures, same build keys, same names"
    assert released.kept_after == released.kept, "nothing in the store was written again"


def test_the_second_run_registers_nothing_new(released: Released) -> None:
    assert released.versions == {"tiny-east": 1, "tiny-north": 1, "tiny-south": 1}
    assert released.versions_after == released.versions
    assert aliases("tiny-north") == {"champion": 1}


def test_a_plan_after_a_release_has_nothing_to_do(released: Released) -> None:
    actions = {engine.region: engine.action for engine in plan().engines}
    assert actions.pop("dim") == "refuse", "the gate's no stands as long as nothing changes"
    assert set(actions.values()) == {"reuse"}
    assert {engine.reason for engine in plan(["north"], force=True).engines} == {"asked for with --force"}


# --------------------------------------------------------------------------------------------------- drills


def test_every_drill_is_refused_each_by_its_own_guard(released: Released) -> None:
    foreign, over, worse = released.first.drills
    assert (foreign.region, foreign.refused, foreign.by) == ("dim", True, "provenance")
    assert "sealed to region east" in foreign.detail
    assert (over.region, over.refused, over.by) == ("dim", True, "gate")
    assert over.gate is not None
    assert over.gate.loss_lower > over.gate.threshold
    assert (worse.name, worse.refused, worse.by) == ("worse model", True, "comparison with the champion")
    assert "the gate alone: approved" in worse.detail
    assert released.second.drills == released.first.drills


def test_nothing_of_a_drill_is_kept_as_an_engine(released: Released) -> None:
    keys = {str(row.build_key).removeprefix("sha256:") for row in released.first.rows}
    assert {path.stem for path in (store_folder() / "records" / OUTCOMES).iterdir()} == keys
    assert len(list((store_folder() / "records" / LATEST).iterdir())) == len(keys)
    assert "tiny-dim" not in released.versions, "neither the damaged candidate nor the failed engine is registered"
