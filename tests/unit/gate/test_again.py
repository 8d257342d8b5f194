"""A decision that is made again from its evidence: the same to the last figure, or not reproduced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from regiolect.contracts import ApprovedEngine, GateDecision
from regiolect.errors import DecisionNotReproduced
from regiolect.evaluate.results import PairedResults
from regiolect.gate.again import require_reproduced
from regiolect.policy.rules import SliceRules
from tests.unit.gate.cases import attestation, decide, engine, evaluation, policy, table

RULES = policy(1.0, accuracy={"slices": SliceRules(by=("device",), limit=2.0), "least": 0.9})
_PLAIN = table(4000, lost=6, gained=4)
ROWS = PairedResults(
    _PLAIN.sample_ids, _PLAIN.reference, _PLAIN.engine, {"device": np.array(["phone"] * 2000 + ["scanner"] * 2000)}
)


def approved(change: Callable[[dict[str, Any]], object] = lambda told: None) -> ApprovedEngine:
    told = decide(ROWS, RULES).model_dump(mode="json")
    change(told)
    return ApprovedEngine.model_construct(
        engine=engine(precision=RULES.precision),
        attestation=attestation(),
        evaluation=evaluation(ROWS),
        decision=GateDecision.model_validate(told),
    )


def test_what_was_decided_on_this_evidence_is_decided_again() -> None:
    require_reproduced(approved(), RULES, ROWS)


def test_another_wording_and_the_last_digit_of_another_machine_are_the_same_decision() -> None:
    def worded(told: dict[str, Any]) -> None:
        told["reasons"] = ["in other words"]
        told["loss_upper"] *= 1 + 1e-12

    require_reproduced(approved(worded), RULES, ROWS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("loss", lambda told: told.update(loss=told["loss"] + 1e-6)),
        ("loss_upper", lambda told: told.update(loss_upper=told["loss_upper"] - 1e-6)),
        ("threshold", lambda told: told.update(threshold=2.0)),
        ("samples", lambda told: told.update(samples=told["samples"] + 1)),
        ("slices", lambda told: told["slices"].pop()),
        ("slices", lambda told: told["slices"].append(told["slices"][0])),
        ("slices", lambda told: told["slices"][1].update(samples=1999)),
        ("slices", lambda told: told["slices"][0].update(value="camera")),
        ("slices", lambda told: told["slices"][0].update(loss_upper=told["slices"][0]["loss_upper"] + 1e-6)),
    ],
)
def test_a_figure_of_another_decision_is_named(name: str, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(DecisionNotReproduced, match=f"expected {name} "):
        require_reproduced(approved(change), RULES, ROWS)
