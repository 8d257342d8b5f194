"""A reader's view of the report: each decision with its reason, its figures and its evidence."""

from __future__ import annotations

import pytest

from regiolect.contracts import (
    CalibrationMethod,
    CheckResult,
    Comparison,
    Decision,
    GraphChoice,
    LossUnit,
    Precision,
    RepairJournal,
    RepairStep,
    SensitiveOperator,
    Split,
    short,
)
from regiolect.integrity import digest_bytes
from regiolect.report import markdown_table, render
from regiolect.report.words import build_words
from tests.unit.report.pages import FAILURE, NOTHING, Page, over_threshold, release, row, unjudged


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        (row(), ["1 approved. 1 served", "models:/tiny-na@champion", "+0.20 pt", "limit 2 pt", "2.44x"]),
        (
            row(decision=Decision.FAILED, model_uri=None, reasons=("latency: p99 120 ms, limit 100 ms",)),
            ["1 failed. 0 served", "na on cpu-x86: ✕ failed at the gate", "latency: p99 120 ms, limit 100 ms"],
        ),
        (
            row(decision=Decision.INCONCLUSIVE, model_uri=None, reasons=("about 9,000 samples are needed",)),
            ["1 inconclusive. 0 served", "na on cpu-x86: ? inconclusive at the gate", "about 9,000 samples are needed"],
        ),
        (
            unjudged("na", Decision.NOT_ATTESTED, executed="unknown", reasons=("no NVIDIA driver on this machine",)),
            ["1 built, not attested. 0 served", "kernels unknown", "no NVIDIA driver on this machine"],
        ),
        (
            unjudged("na", Decision.REFUSED, failure=FAILURE, target=None, backend=None, precision=None),
            ["1 refused. 0 served", "na: ⊘ refused, DataCheckFailed", "mean from 103 to 141", "12.4", "look at the"],
        ),
        (
            row(model_uri=None, failure=FAILURE.model_copy(update={"kind": "RegistryError"})),
            ["1 approved. 0 served", "approved but not served: na", "na on cpu-x86: approved, but not served"],
        ),
    ],
    ids=["approved", "failed", "inconclusive", "not attested", "refused", "not registered"],
)
def test_each_decision_is_told_with_its_reason(decided, said):
    text = Page(render(release(decided), [])).text
    for words in said:
        assert words in text


def test_a_clean_release_raises_no_alarm_and_a_bad_row_does():
    assert "Needs attention" not in render(release(row(), unjudged("jp", Decision.NOT_ATTESTED)), [])
    assert "Needs attention" in render(release(row(), row("jp", decision=Decision.INCONCLUSIVE)), [])


def test_an_engine_that_is_surely_better_than_fp32_is_an_alarm_and_in_every_table():
    odd = release(row(), row("jp", loss=-80.0, loss_lower=-82.0, loss_upper=-78.0))
    told = "suspicious: better than FP32 by at least 78.00 pt"
    assert f"jp on cpu-x86: {told}" in Page(render(odd, [])).text
    assert told in markdown_table(odd)
    assert "suspicious" not in render(release(row(loss=-1.0, loss_lower=-3.0, loss_upper=0.5)), [])


def test_a_drill_is_marked_as_deliberate_and_one_that_got_through_is_an_alarm():
    drill = over_threshold()
    held = Page(render(release(row(), drills=(drill,)), [])).text
    assert "DELIBERATE DRILL" in held
    assert "refused by gate, as it must be" in held
    assert "Needs attention" not in held
    through = drill.model_copy(update={"refused": False, "by": "nothing: approved"})
    let = Page(render(release(row(), drills=(through,)), [])).text
    assert "Needs attention a deliberate drill was not refused: over its threshold" in let
    assert "NOT refused (nothing: approved)" in let


def test_a_release_of_nothing_is_a_page_that_says_so():
    page = Page(render(release(), []))
    assert "asked for no engine" in page.text
    assert "Nothing was refused or held back" in page.text
    assert not page.all("svg")


def test_regions_stand_under_their_precision_widest_first():
    rows = [row("na"), row("eu", precision=Precision.FP16, executed="FP32 11"), row("jp")]
    rows += [row("de", precision=Precision.FP32), unjudged("hk", Decision.REFUSED, precision=None)]
    text = Page(render(release(*rows), [])).text
    listed = text[text.index("Regions by precision") : text.index("Engines")]
    assert listed.strip() == "Regions by precision FP32 de ✓ FP16 eu ✓ INT8 na ✓ jp ✓ no precision known hk ⊘"


@pytest.mark.parametrize(
    ("precision", "executed", "words"),
    [
        (Precision.FP16, "FP32 11", "FP16 graph FP32 kernels"),
        (Precision.INT8, "INT8 10 + FP32 1", "INT8 graph 10 INT8 and 1 FP32 kernels"),
        (Precision.INT8, "INT8 8 + FP16 3 + FP32 1", "INT8 graph 8 INT8, 3 FP16 and 1 FP32 kernels"),
        (Precision.INT8, "unknown", "INT8 graph kernels unknown"),
    ],
)
def test_precision_is_put_in_words(precision, executed, words):
    result = release(row(precision=precision, executed=executed))
    assert words in Page(render(result, [])).text
    assert words.replace("graph ", "graph, ") in markdown_table(result)


@pytest.mark.parametrize(
    ("rebuilt", "decision", "told"),
    [
        (True, Decision.APPROVED, "25.8 s"),
        (True, Decision.REFUSED, "25.8 s"),
        (False, Decision.APPROVED, "unchanged"),
        (False, Decision.REFUSED, "-"),
    ],
)
def test_a_build_tells_its_time_and_what_never_came_to_be_built_is_not_unchanged(rebuilt, decision, told):
    assert build_words(row(rebuilt=rebuilt, decision=decision)) == told


def test_a_bound_just_under_its_limit_does_not_read_as_the_limit():
    page = Page(render(release(row(loss=0.0, loss_lower=-0.07, loss_upper=0.0998, threshold=0.1)), []))
    assert "to +0.0998" in page.text
    assert "-0.00" not in Page(render(release(row(loss=-0.0001)), [])).text


def repaired(shipped: Precision = Precision.FP16) -> RepairJournal:
    """An INT8 graph that gives nonsense, a mixed one that loses too much, and a wider one."""
    int8, wide = GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY), GraphChoice(precision=shipped)
    mixed = int8.model_copy(update={"wider": ("y1", "y2")})
    return RepairJournal(
        metric="accuracy",
        unit=LossUnit.ABSOLUTE_POINTS,
        limit=2.0,
        samples=500,
        operators=54,
        steps=(
            RepairStep(choice=int8, loss=100, loss_upper=100, accepted=False, failure="NaN for sample 'a-7'"),
            RepairStep(choice=mixed, loss=12.5, loss_upper=14.25, accepted=False),
            RepairStep(choice=wide, loss=0.1, loss_upper=0.75, accepted=True),
        ),
        sensitive=(SensitiveOperator(output="conv_7", kind="Conv", error=0.31),),
        comparison=Comparison(precision=Precision.FP16, speedup=0.97, speedup_lower=0.95, required=1.05),
        chosen=wide,
        reason="FP16: loss 0.10, after 2 that lose too much",
    )


def test_every_step_of_a_repair_is_told_with_its_figures(outcome_of):
    about = row(precision=Precision.FP16, asked=Precision.INT8)
    text = Page(render(release(about), [outcome_of(about, journal=repaired())])).text
    assert "FP16: loss 0.10, after 2 that lose too much" in text
    assert "INT8, entropy, 2 operators wider +12.50 pt +14.25 pt 2 pt ✕ over the limit" in text
    assert "✕ unusable NaN for sample 'a-7'" in text
    assert "FP16 +0.10 pt +0.75 pt 2 pt ✓ within the limit shipped to the gate" in text
    assert "conv_7 (Conv) 0.31" in text
    assert "0.97x FP16 surely 0.95x, 1.05x asked for" in text
    assert "FP16 graph (INT8 asked for)" in text


def test_a_repair_that_found_nothing_says_so(outcome_of):
    about = row(decision=Decision.REFUSED, failure=FAILURE, **NOTHING)
    outcome = outcome_of(about, chosen=None, engine=None, attestation=None, evaluation=None)
    outcome = outcome.model_copy(update={"journal": repaired()})
    assert "✕ none 3" in Page(render(release(about), [outcome])).text


def test_both_scores_the_sure_speed_the_size_and_how_to_load_it_are_told(outcome_of):
    about = row("na")
    outcome = outcome_of(about)
    scored = outcome.evaluation.model_copy(
        update={
            "reference_score": 0.989,
            "engine_score": 0.9872,
            "timing": outcome.evaluation.timing.model_copy(update={"speedup_lower": 2.31}),
        }
    )
    text = Page(render(release(about), [outcome.model_copy(update={"evaluation": scored})])).text
    table = text[text.index("served as") : text.index("Loss: the FP32")]
    size = sum(file.blob.size for file in outcome.engine.files) / 1e6
    for words in ("98.90 to 98.72 %", "2.44x surely 2.31x", f"{size:.2f} MB", 'load_model("models:/tiny-na@champion")'):
        assert words in table.replace("2.44xsurely", "2.44x surely")


def test_calibration_provenance_names_method_samples_and_seal(outcome_of):
    about = row("na")
    outcome = outcome_of(about)
    text = Page(render(release(about), [outcome])).text
    told = text[text.index("Calibration provenance") :]
    sealed = [short(digest_bytes(content)) for content in (b"calibration set", b"graph", b"preprocessing", b"table")]
    for words in ("na cpu entropy 512", "na ✓ its own", *sealed):
        assert words in told
    foreign = Page(render(release(about), [outcome_of(about, sealed_to="eu")])).text
    assert "eu ✕ FOREIGN" in foreign


def test_evidence_holds_the_digests_in_full_and_the_machine(outcome_of):
    about = row("na")
    outcome = outcome_of(about)
    text = Page(render(release(about), [outcome])).text
    assert "Measured on Some CPU (avx2)" in text
    for digest in (outcome.build_key, outcome.policy, outcome.evaluation.results.digest):
        assert digest in text
    assert "10 INT8 and 1 FP32 kernels (kernels by type: 10 INT8, 1 FP32)" in text


def test_evidence_follows_the_table_whatever_the_order_of_outcomes(outcome_of):
    rows = [row("na"), row("eu"), row("jp")]
    outcomes = [outcome_of(about) for about in rows]
    assert render(release(*rows), outcomes) == render(release(*rows), outcomes[::-1])


def test_failed_data_checks_stand_with_the_refusal(outcome_of):
    check = CheckResult(
        expectation="mean as declared", split=Split.GATE, passed=False, expected="from 1 to 2", observed="77.7"
    )
    about = unjudged("na", Decision.REFUSED, failure=FAILURE)
    fine = check.model_copy(update={"passed": True, "observed": "1.5"})
    nothing = dict.fromkeys(("chosen", "engine", "attestation", "evaluation"))
    outcome = outcome_of(about, failure=FAILURE, checks=(fine, check), **nothing)
    text = Page(render(release(about), [outcome])).text
    refusals = text[text.index("What was refused") : text.index("Calibration provenance")]
    assert "77.7 ✕ FAILED" in refusals
    assert "1.5 passed" not in refusals
    assert "Data checks: 1 of 2 passed" in text
