"""What the gate refuses to judge: engines without proof, figures that are not of these results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regiolect.contracts import Arithmetic, Attestation, Decision, Execution, LossUnit, Precision
from regiolect.errors import GateRefused, InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.integrity import digest_bytes
from tests.unit.gate.cases import attestation, blob, decide, engine, evaluation, policy, table


def test_an_engine_that_was_not_attested_is_refused() -> None:
    rows = table(4000)
    for proof in (
        Attestation(graph={Precision.FP16: 9}, executed=None, source="no GPU here"),
        Attestation(graph={Precision.FP16: 9}, executed={}, source="an empty answer"),
        Attestation(graph={Precision.FP16: 0}, executed={Execution.FP32: 9}, source="runtime model"),
    ):
        with pytest.raises(GateRefused, match="an attestation of"):
            decide(rows, proof=proof)


@pytest.mark.parametrize(
    ("built_for", "ran_on", "found"),
    [
        (Arithmetic.VNNI, Arithmetic.VNNI, None),
        (Arithmetic.VNNI, Arithmetic.AMX, "one of class amx"),
        (Arithmetic.VNNI, None, "one that does not tell its class"),
        (None, Arithmetic.AMX, None),
    ],
)
def test_int8_that_ran_in_another_class_than_it_was_built_for_is_refused(
    built_for: Arithmetic | None, ran_on: Arithmetic | None, found: str | None
) -> None:
    rows, rules = table(4000), policy(precision=Precision.INT8)
    built = engine(precision=Precision.INT8, arithmetic=built_for)
    proof = attestation({Execution.INT8: 9}, INT8=9).model_copy(update={"arithmetic": ran_on})
    if found is None:
        assert decide_gate(built, rules, proof, evaluation(rows), rows).verdict is Decision.APPROVED
    else:
        with pytest.raises(GateRefused, match=found):
            decide_gate(built, rules, proof, evaluation(rows), rows)


def test_another_region_s_policy_is_refused() -> None:
    rows = table(4000)
    with pytest.raises(GateRefused, match="engine of region 'na'"):
        decide_gate(engine(), policy(region="na"), attestation(), evaluation(rows), rows)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"build_key": digest_bytes(b"another")}, "results of engine"),
        ({"metric": "f1"}, "metric 'f1'"),
        ({"samples": 3999}, "3,999 per-sample results"),
        ({"results": blob(b"other results")}, "per-sample results"),
        ({"reference_score": float("nan")}, "found nan"),
        ({"engine_score": float("inf")}, "found inf"),
        ({"engine_score": 0.75}, "engine_score 1.000000, the mean"),
    ],
)
def test_figures_that_are_not_of_these_results_are_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidResults, match=found):
        decide(table(4000), **changes)


def test_results_in_another_order_than_were_published_are_refused() -> None:
    rows = table(4000, lost=3)
    turned = PairedResults(rows.sample_ids[::-1], rows.reference[::-1], rows.engine[::-1])
    with pytest.raises(InvalidResults, match="per-sample results"):
        decide_gate(engine(), policy(), attestation(), evaluation(rows), turned)


@pytest.mark.parametrize("score", [-0.01, 1.0000001, 2.0])
def test_scores_outside_0_and_1_are_refused_by_sample(score: float) -> None:
    rows = PairedResults(("a", "b"), np.array([1.0, score]), np.array([1.0, 1.0]))
    with pytest.raises(InvalidResults, match=rf"{score:g} for sample 'b' under the reference.*top1"):
        decide(rows)


@pytest.mark.parametrize("whose", ["reference", "engine"])
def test_one_figure_of_all_samples_is_no_evidence(whose: str) -> None:
    """As a metric gives it that returns `np.full(n, f1)`: the loss of one figure would pass for that of 4,000."""
    each = np.linspace(0.2, 0.9, 4000)
    scores = {"reference": each, "engine": each, whose: np.full(4000, 0.83)}
    rows = PairedResults(tuple(f"s{i:04d}" for i in range(4000)), **scores)
    with pytest.raises(InvalidResults, match=rf"a score of the {whose} for each.*0.83 for each of 4,000 samples"):
        decide(rows)


def test_a_reference_that_is_never_right_has_no_relative_loss() -> None:
    with pytest.raises(InvalidResults, match="absolute_points"):
        decide(table(50, wrong=50), policy(accuracy={"unit": LossUnit.RELATIVE_PERCENT}))
