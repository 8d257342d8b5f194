"""A new engine against the one that is served now: would consumers be worse off?

The gate compares an engine with its own FP32, so a worse model passes it as well as a good one. Here the reference is
what consumers load today, on the same gate samples, by the same exact bounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Arithmetic, ChampionComparison, Decision, EvaluationResult, LossUnit, Verdict
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.accuracy import Bounded
from regiolect.gate.losses import Evidence
from regiolect.policy import AccuracyLimit


def judge_against(
    rule: AccuracyLimit,
    served: PairedResults,
    new: PairedResults,
    *,
    target: str,
    engine: str,
    champion: str,
    served_key: str,
    arithmetic: Arithmetic | None = None,
    elsewhere: str = "",
    again: bool = False,
) -> ChampionComparison:
    """Compare a new engine with the served one. Pure: equal arguments give an equal answer.

    The upper bound of the loss within `accuracy.regression` (by default `accuracy.limit`) approves, the lower bound
    above it fails, anything else is inconclusive.

    Args:
        rule: limit, unit and confidence.
        served: the served engine's results on the gate set; its scores are in `engine`.
        new: the new engine's, on the same samples.
        target, engine, arithmetic: the new engine's target, build key and class.
        champion, served_key: the version that is served, and the build key of its engine.
        elsewhere: the place of the served engine, where it is another than the new one's.
        again: the served engine was run again for this.

    Raises:
        InvalidResults: the two are not of the same samples, or a score is outside [0, 1].
    """
    losses = Evidence.of(
        PairedResults(new.sample_ids, _in_order(served, new.sample_ids), new.engine), rule.metric
    ).whole()
    limit = rule.regression_limit
    bounded = None
    if rule.unit is LossUnit.RELATIVE_PERCENT and losses.reference == 0.0:
        verdict: Verdict = Decision.APPROVED
        reason = f"{champion} scores 0 on all {losses.samples:,} samples: nothing can be lost"
    else:
        bounded = Bounded.of(losses, rule, limit)
        verdict, reason = bounded.verdict, bounded.told(rule, losses)
    held = ", so inconclusive" if verdict is Decision.INCONCLUSIVE else ""
    place = f" (its engine of {elsewhere})" if elsewhere else ""
    run = ", which was run again on today's gate set" if again else ""
    return ChampionComparison.model_validate(
        {
            "target": target,
            "arithmetic": arithmetic,
            "engine": engine,
            "champion": champion,
            "served": served_key,
            "outcome": verdict,
            "again": again,
            "unit": rule.unit,
            "limit": limit,
            "confidence": rule.confidence,
            "samples": losses.samples,
            "loss": bounded.loss if bounded else None,
            "loss_lower": bounded.lower if bounded else None,
            "loss_upper": bounded.upper if bounded else None,
            "reason": f"against {champion}{place}{run}: {reason}{held}",
        }
    )


def not_compared(
    rule: AccuracyLimit, why: str, *, target: str, engine: str, champion: str, arithmetic: Arithmetic | None = None
) -> ChampionComparison:
    """The comparison of two engines that could not be compared: it holds the new one back."""
    return ChampionComparison(
        target=target,
        arithmetic=arithmetic,
        engine=engine,
        champion=champion,
        served=None,
        outcome=Decision.INCONCLUSIVE,
        unit=rule.unit,
        limit=rule.regression_limit,
        confidence=rule.confidence,
        reason=f"against {champion}: not compared: {why}",
    )


def same_evidence(before: EvaluationResult, now: EvaluationResult) -> bool:
    """Whether two engines were scored on one gate set, by one metric's code. What was not kept of it is not known."""
    return now.metric_code is not None and (before.dataset, before.metric, before.metric_code) == (
        now.dataset,
        now.metric,
        now.metric_code,
    )


def _in_order(served: PairedResults, ids: tuple[str, ...]) -> NDArray[np.float64]:
    """The served engine's scores in the order of `ids`."""
    if served.sample_ids == ids:
        return served.engine
    if set(served.sample_ids) != set(ids):
        raise InvalidResults(
            expected=f"results of both engines on the same {len(ids):,} samples",
            found=f"{len(set(ids) - set(served.sample_ids)):,} of them missing from the served engine's",
            remedy="release the region again, which runs the served engine on today's gate set",
        )
    place = {sample: index for index, sample in enumerate(served.sample_ids)}
    return served.engine[[place[sample] for sample in ids]]
