"""The gate asked again: whoever relies on a decision makes it anew from the results that it rests on."""

from __future__ import annotations

import math

from regiolect.contracts import ApprovedEngine, GateDecision
from regiolect.errors import DecisionNotReproduced
from regiolect.evaluate.results import PairedResults
from regiolect.gate.decision import decide_gate
from regiolect.policy import RegionPolicy


def require_reproduced(approved: ApprovedEngine, policy: RegionPolicy, rows: PairedResults) -> None:
    """Raises DecisionNotReproduced unless the gate, asked again on the same evidence, decides the same.

    Reasons are left out: their wording is a version's own.

    Raises:
        GateRefused, InvalidResults: the evidence does not belong together.
    """
    again = decide_gate(approved.engine, policy, approved.attestation, approved.evaluation, rows)
    kept, reproduced = _figures(approved.decision), _figures(again)
    # A figure that one of them lacks is a difference as well: a floor that the policy states and nobody judged.
    for name in dict.fromkeys([*kept, *reproduced]):
        if not _same(kept.get(name), reproduced.get(name)):
            raise DecisionNotReproduced(
                expected=f"{name} {reproduced.get(name)} from the {len(rows):,} per-sample results",
                found=f"{kept.get(name)} in the decision",
                remedy="do not serve this engine; build and judge it anew: regiolect run MODEL --force",
            )


def _figures(decision: GateDecision) -> dict[str, object]:
    figures = decision.model_dump(mode="json", exclude={"reasons"})
    return {name: figures[name] for name in GateDecision.model_fields if name in figures}


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other
