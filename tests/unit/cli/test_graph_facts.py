"""What `show` tells of an engine's graph: how it was calibrated, what repair did, and what it scored."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from regiolect.calibrate import table_to_bytes
from regiolect.cli.engine_facts import EngineView, find_engine
from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ChosenGraph,
    Comparison,
    Decision,
    GraphChoice,
    LossUnit,
    Precision,
    RepairJournal,
    RepairStep,
    Seal,
    TensorRange,
)
from regiolect.integrity import digest_bytes
from regiolect.planning import OUTCOMES
from regiolect.settings import Settings

INT8 = GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY)
MIXED = INT8.model_copy(update={"wider": ("y1", "y2")})
OTHER = GraphChoice(precision=Precision.INT8, method=CalibrationMethod.MINMAX)
JOURNAL = RepairJournal(
    metric="accuracy",
    unit=LossUnit.ABSOLUTE_POINTS,
    limit=2.0,
    samples=500,
    steps=(
        RepairStep(choice=INT8, loss=100, loss_upper=100, accepted=False, failure="NaN for sample 'a-7'"),
        RepairStep(choice=OTHER, loss=12.5, loss_upper=14.25, accepted=False),
        RepairStep(choice=GraphChoice(precision=Precision.FP16), loss=1.9, loss_upper=2.4, accepted=False),
        RepairStep(choice=MIXED, loss=-0.001, loss_upper=0.75, accepted=True),
    ),
    comparison=Comparison(precision=Precision.FP16, speedup=1.31, speedup_lower=1.27, required=1.05),
    chosen=MIXED,
    reason="INT8 with 2 operators wider: loss 0.00",
)
TRIED = [
    ("repair", "INT8 with 2 operators wider: loss 0.00; 4 graphs tried on 500 selection samples"),
    ("", "INT8, entropy: unusable, NaN for sample 'a-7'"),
    ("", "INT8, minmax: loss +12.50 pt, at most +14.25, limit 2 pt, over the limit"),
    ("", "FP16: loss +1.90 pt, at most +2.40, limit 2 pt, not surely within the limit"),
    ("", "INT8, entropy, 2 operators wider: loss +0.00 pt, at most +0.75, limit 2 pt, within the limit, chosen"),
    ("", "1.31x the speed of FP16, surely 1.27x, 1.05x asked for"),
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Settings(home=tmp_path / "home")


@pytest.fixture
def kept(bundles, settings):
    """Bundles whose store is that of the settings."""
    return dataclasses.replace(bundles, store=settings.store())


@pytest.fixture
def table() -> CalibrationTable:
    digest = digest_bytes(b"anything")
    return CalibrationTable(
        seal=Seal(
            region="eu",
            model=digest,
            preprocessing=digest,
            dataset=digest,
            sample_ids=tuple(f"sample-{number}" for number in range(1200)),
            checks=digest,
            made=datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
        ),
        method=CalibrationMethod.ENTROPY,
        tensors={"x": TensorRange(threshold=1.0, minimum=-1.0, maximum=1.0)},
    )


def facts(view: EngineView) -> dict[str, str]:
    return {name: fact for name, fact in view.facts if name}


@pytest.mark.parametrize("place", ["store", "bundle"])
def test_calibration_and_scores_are_told_wherever_the_engine_lies(kept, settings, table, tmp_path, place: str) -> None:
    digest = kept.store.put_bytes(table_to_bytes(table)).digest
    artifact = kept.artifact().model_copy(update={"calibration": digest})
    if place == "bundle":
        kept.write(tmp_path / "bundle", artifact)
        told = facts(find_engine(str(tmp_path / "bundle"), settings))
    else:
        outcome = kept.outcome(artifact).model_copy(update={"chosen": ChosenGraph(choice=INT8, table=table)})
        kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
        told = facts(find_engine(outcome.build_key, settings))
    assert told["calibration"] == f"entropy on 1,200 samples of eu, 2026-03-04 05:06 UTC; table {digest}"
    scored = kept.evaluation(artifact)
    assert told["scores"] == (
        f"accuracy {100 * scored.engine_score:.2f} %, FP32 reference {100 * scored.reference_score:.2f} %, "
        f"on the same {scored.samples:,} gate samples"
    )
    assert "repair" not in told


def test_every_graph_that_repair_tried_is_told(kept, settings, table) -> None:
    chosen = ChosenGraph(choice=MIXED, table=table, journal=JOURNAL)
    outcome = kept.outcome(kept.artifact()).model_copy(update={"chosen": chosen})
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    told = list(find_engine(outcome.build_key, settings).facts)
    begin = told.index(TRIED[0])
    assert told[begin : begin + len(TRIED)] == TRIED


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            ChosenGraph(choice=INT8, journal=JOURNAL.model_copy(update={"stopped": "the time was up"})),
            f"{JOURNAL.reason}; the time was up; 4 graphs tried on 500 selection samples",
        ),
        (ChosenGraph(choice=INT8, unrepaired="not repaired: no GPU"), "INT8, entropy: not repaired: no GPU"),
    ],
)
def test_a_repair_that_ended_early_or_never_began_says_so(kept, settings, chosen: ChosenGraph, told: str) -> None:
    outcome = kept.outcome(kept.artifact()).model_copy(update={"chosen": chosen})
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    assert facts(find_engine(outcome.build_key, settings))["repair"] == told


def test_of_a_region_without_an_engine_it_is_told_what_was_tried_and_nothing_is_chosen(kept, settings) -> None:
    outcome = kept.outcome(kept.artifact(), Decision.REFUSED).model_copy(update={"journal": JOURNAL})
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    told = [fact for _, fact in find_engine(outcome.build_key, settings).facts]
    assert any("over the limit" in fact for fact in told)
    assert not any("chosen" in fact for fact in told)
    assert "scores" not in facts(find_engine(outcome.build_key, settings))


def test_an_engine_that_needs_no_calibration_says_so(kept, settings) -> None:
    outcome = kept.outcome(kept.artifact())
    kept.store.put_record(OUTCOMES, outcome.build_key, outcome)
    assert facts(find_engine(outcome.build_key, settings))["calibration"] == "none needed"
