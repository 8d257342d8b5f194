"""A new engine against the served one, on the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regiolect.contracts import ChampionComparison, Decision, LossUnit
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.champion import judge_against
from regiolect.integrity import digest_bytes
from regiolect.policy import AccuracyLimit
from tests.unit.gate.cases import BUILD_KEY

COUNT = 4000
IDS = tuple(f"s{number:06d}" for number in range(COUNT))
RELATIVE = {"unit": LossUnit.RELATIVE_PERCENT}


def scored(wrong: int) -> PairedResults:
    """Results of an engine that is wrong on the first so many samples."""
    right = (np.arange(COUNT) >= wrong).astype(float)
    return PairedResults(IDS, np.ones(COUNT), right)


def compared(served: PairedResults, new: PairedResults, **rule: Any) -> ChampionComparison:
    return judge_against(
        AccuracyLimit(metric="accuracy", limit=1.0, **rule),
        served,
        new,
        target="cpu",
        engine=BUILD_KEY,
        champion="models:/tiny-eu/1",
        served_key=digest_bytes(b"served"),
    )


@pytest.mark.parametrize("rule", [{}, RELATIVE])
@pytest.mark.parametrize(
    ("wrong", "outcome"), [(400, Decision.APPROVED), (439, Decision.INCONCLUSIVE), (500, Decision.FAILED)]
)
def test_what_is_lost_is_counted_against_the_served_engine(wrong: int, outcome: Decision, rule: dict[str, Any]) -> None:
    found = compared(scored(400), scored(wrong), **rule)
    assert found.outcome is outcome
    assert found.loss == pytest.approx((wrong - 400) / (36 if rule else 40))
    assert found.reason.startswith("against models:/tiny-eu/1: loss ")
    assert found.reason.endswith(", so inconclusive") == (outcome is Decision.INCONCLUSIVE)


def test_where_the_served_engine_is_always_wrong_nothing_can_be_lost_in_its_share() -> None:
    found = compared(scored(COUNT), scored(COUNT), **RELATIVE)
    assert (found.outcome, found.loss) == (Decision.APPROVED, None)
    assert "scores 0 on all 4,000 samples: nothing can be lost" in found.reason
    in_points = compared(scored(COUNT), scored(COUNT))
    assert (in_points.outcome, in_points.loss) == (Decision.APPROVED, 0.0)


def test_samples_are_paired_by_name_whatever_their_order() -> None:
    turned = PairedResults(IDS[::-1], np.ones(COUNT), scored(400).engine[::-1])
    assert compared(turned, scored(410)) == compared(scored(400), scored(410))


def test_other_samples_cannot_be_compared() -> None:
    others = PairedResults(tuple(f"t{name}" for name in IDS), np.ones(COUNT), scored(0).engine)
    with pytest.raises(InvalidResults, match="4,000 of them missing"):
        compared(others, scored(0))
