"""A region whose INT8 engine loses too much, or gains too little: what is shipped instead, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.release import release
from regiolect.calibrate import table_from_bytes
from regiolect.contracts import Decision, Precision, Split
from regiolect.settings import load_settings
from tests.flows.kept import outcome_of
from tests.flows.tiny_models import ADDRESS, Workshop

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
