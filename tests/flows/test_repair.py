"""A region whose INT8 engine loses too much, or gains too little: what is shipped instead, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.release import release
from regiolect.calibrate import table_from_bytes
from regiolect.contracts import Decision, Precision, Split
from regiolect.engines.catalog import backend
from regiolect.engines.openvino.runtime import OpenVinoEngine
from regiolect.settings import load_settings
from tests.flows.kept import outcome_of
from tests.flows.tiny_models import ADDRESS, CPU, PORTABLE, Workshop

# Where eight bits over the calibration set's range tell nothing; the gate is not the first to notice.
FAINT = [Split.SELECTION, Split.GATE]
LARGE = {"samples": {"calibration": 32, "selection": 100, "gate": 200}}


def test_an_engine_that_loses_too_much_is_repaired_on_the_selection_set(workshop: Workshop) -> None:
    workshop.write_data("north", faint=FAINT, selection=100)
    workshop.write_policy("north", repair={"steps": 6, "fallback": ["FP32"]}, **LARGE)
    result = release(ADDRESS)
    (row,) = result.rows
    assert (row.decision, row.precision, row.asked) == (Decision.APPROVED, Precision.FP32, Precision.INT8)
    assert row.model_uri == "models:/tiny-north@champion"
    journal = outcome_of(row).repair
    assert journal is not None
    assert [step.choice.precision for step in journal.steps] == [*["INT8"] * 5, "FP32"]
    assert [step.accepted for step in journal.steps] == [False] * 5 + [True]
    assert journal.samples == 100
    assert len(journal.sensitive) == journal.operators == 3
    assert any("after 5 that lose too much" in reason for reason in row.reasons)
    page = Path(str(result.report)).read_text()
    assert "How each graph was chosen" in page
    assert "INT8 asked for" in page


@pytest.mark.acceptance
def test_where_nothing_is_allowed_that_helps_the_region_is_refused_and_the_gate_set_stays_closed(
    workshop: Workshop,
) -> None:
    workshop.write_data("north", faint=FAINT, selection=100)
    workshop.write_policy("north", **LARGE)
    (row,) = release(ADDRESS).rows
    assert (row.decision, row.model_uri) == (Decision.REFUSED, None)
    assert row.failure is not None
    assert row.failure.kind == "NothingWithinLimit"
    assert "repair.fallback" in row.failure.remedy
    outcome = outcome_of(row)
    assert outcome.evaluation is None
    assert outcome.repair is not None
    assert len(outcome.repair.steps) > 3


@pytest.mark.acceptance
@pytest.mark.parametrize(("margin", "shipped"), [(1000.0, Precision.FP32), (0.001, Precision.INT8)])
def test_int8_must_be_faster_than_the_next_wider_precision_by_the_policys_margin(
    workshop: Workshop, margin: float, shipped: Precision
) -> None:
    workshop.write_data("north", selection=100)
    workshop.write_policy("north", repair={"fallback": ["FP32"], "least_speedup": margin}, **LARGE)
    result = release(ADDRESS)
    (row,) = result.rows
    assert (row.decision, row.precision) == (Decision.APPROVED, shipped)
    journal = outcome_of(row).repair
    assert journal is not None
    assert journal.comparison is not None
    assert journal.comparison.required == margin
    assert (f"{journal.comparison.speedup:.2f}x the speed of FP32" in " ".join(row.reasons)) == (shipped != "INT8")
    kept = json.loads(Path(str(result.report)).with_suffix(".json").read_text())
    assert kept["rows"][0]["precision"] == shipped
    assert kept["rows"][0]["asked"] == "INT8"


@pytest.mark.acceptance
def test_a_model_that_arrives_quantized_is_int8_and_nothing_wider_takes_its_place(workshop: Workshop) -> None:
    """Its graph makes integer kernels whatever it is called, so none of it goes without a class and a self-test."""
    workshop.quantize_model()
    for region, precision in (("north", "INT8"), ("east", "FP16"), ("south", "FP32")):
        workshop.add(region, precision=precision, repair={})
    rows = {row.region: row for row in release(ADDRESS).rows}
    assert (rows["north"].decision, rows["north"].precision) == (Decision.APPROVED, Precision.INT8)
    kept = outcome_of(rows["north"])
    assert kept.engine is not None
    assert kept.evaluation is not None
    assert kept.repair is not None
    assert kept.engine.request.arithmetic is backend("openvino").arithmetic()
    assert kept.evaluation.selftest is not None
    assert "no wider precision that the policy allows could be built to compare INT8 with" in kept.repair.reason
    for region in ("east", "south"):
        failure = rows[region].failure
        assert rows[region].decision is Decision.REFUSED
        assert outcome_of(rows[region]).engine is None
        assert failure is not None
        assert failure.kind == "AlreadyQuantized"
        assert f"state `precision: INT8` in the policy of {region}; or make the model as it was" in failure.remedy


def test_a_model_that_arrives_quantized_and_loses_too_much_is_refused_by_that_name(workshop: Workshop) -> None:
    """Other thresholds and operators left out change nothing of it, and a wider graph there is none."""
    workshop.quantize_model()
    workshop.write_data("north", faint=FAINT, selection=100)
    workshop.write_policy("north", repair={}, **LARGE)
    (row,) = release(ADDRESS).rows
    assert (row.decision, row.model_uri) == (Decision.REFUSED, None)
    assert row.failure is not None
    assert row.failure.kind == "NothingWithinLimit"
    journal = outcome_of(row).repair
    assert journal is not None
    assert [step.choice.precision for step in journal.steps] == [*["INT8"] * 4, "FP16", "FP32"]
    assert all(str(step.failure).startswith("AlreadyQuantized: 3 of its 6 compute") for step in journal.steps[4:])


@pytest.fixture
def upside_down(monkeypatch: pytest.MonkeyPatch, one_process: None) -> None:
    """OpenVINO, were it to get every INT8 graph wrong."""
    run = OpenVinoEngine._run

    def wrong(self: OpenVinoEngine, pieces: Any) -> Any:
        sign = -1 if self.artifact.request.precision is Precision.INT8 else 1
        return [{name: sign * output for name, output in each.items()} for each in run(self, pieces)]

    monkeypatch.setattr(OpenVinoEngine, "_run", wrong)


def test_an_engine_that_miscomputes_its_graph_is_that_targets_outcome_and_no_repair_is_tried(
    upside_down: None, workshop: Workshop
) -> None:
    """The other target of the region has its engine."""
    workshop.add("north", CPU, PORTABLE)
    rows = {row.target: row for row in release(ADDRESS).rows}
    failure = rows["cpu"].failure
    assert rows["cpu"].decision is Decision.REFUSED
    assert failure is not None
    assert failure.kind == "EngineMiscomputes"
    assert "output 'logits' of the INT8 engine of openvino" in failure.expected
    assert "2 of its size away" in failure.found
    assert "name another backend for 'cpu' in the policy of north" in failure.remedy
    assert (outcome_of(rows["cpu"]).repair, outcome_of(rows["cpu"]).engine) == (None, None)
    assert rows["portable"].decision is Decision.APPROVED


@pytest.mark.acceptance
def test_where_the_policy_allows_a_wider_precision_it_takes_the_place_of_an_engine_that_miscomputes(
    upside_down: None, workshop: Workshop
) -> None:
    workshop.add("north", repair={"fallback": ["FP32"]})
    (row,) = release(ADDRESS).rows
    assert (row.decision, row.precision, row.asked) == (Decision.APPROVED, Precision.FP32, Precision.INT8)
    journal = outcome_of(row).repair
    assert journal is not None
    assert [step.choice.precision for step in journal.steps] == ["INT8", "FP32"]
    assert any("the INT8 engine answers otherwise than its own graph: 2 of its size" in each for each in row.reasons)


@pytest.mark.acceptance
def test_a_calibration_that_is_older_than_the_policy_allows_is_made_anew(workshop: Workshop) -> None:
    workshop.add("north", calibration={"max_age_days": 30})
    (first,) = release(ADDRESS).rows
    (again,) = release(ADDRESS).rows
    assert (first.rebuilt, again.rebuilt) == (True, False)
    workshop.write_policy("north", calibration={"max_age_days": 1e-9})
    (renewed,) = release(ADDRESS).rows
    assert renewed.rebuilt
    before, after = outcome_of(first).calibration, outcome_of(renewed).calibration
    assert before is not None
    assert after is not None
    assert after.seal.made > before.seal.made
    assert after.tensors == before.tensors


@pytest.mark.acceptance
def test_force_observes_anew_and_the_table_lies_under_the_digest_that_its_engine_names(workshop: Workshop) -> None:
    workshop.add("north")
    (first,) = release(ADDRESS).rows
    before = outcome_of(first).calibration
    (forced,) = release(ADDRESS, force=True).rows
    after = outcome_of(forced)
    assert before is not None
    assert after.calibration is not None
    assert after.calibration.seal.made > before.seal.made
    assert after.engine is not None
    digest = str(after.engine.calibration).removeprefix("sha256:")
    kept = (load_settings().home / "store" / "blobs" / digest[:2] / digest).read_bytes()
    assert table_from_bytes(kept) == after.calibration
