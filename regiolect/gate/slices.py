"""The ruling on slices: parts of the gate set on which an engine may lose no more either.

Each slice passes by itself at the full confidence. An engine that loses more than its limit on some slice is approved
only if that very slice passes, which happens with a probability of at most alpha: no correction is needed for how many
there are (an intersection-union test; R. Berger, Technometrics 24 (1982) 295).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regiolect.contracts import Decision, LossUnit, SliceFigures
from regiolect.errors import InvalidResults
from regiolect.evaluate.results import PairedResults
from regiolect.gate.accuracy import Bounded, more_samples
from regiolect.gate.losses import Evidence, Losses
from regiolect.gate.ruling import SEVERITY, Ruling
from regiolect.gate.tally import Tally
from regiolect.policy import AccuracyLimit, SliceRules

MOST_SLICES = 1000
_NAMED = 3  # slices at most that get a reason of their own


@dataclass(frozen=True)
class Slice:
    """One slice: its figures, why it does not pass, and how large the whole gate set should be for it."""

    figures: SliceFigures
    reason: str
    samples_needed: int | None = None

    @property
    def name(self) -> str:
        """`device=phone`."""
        return f"{self.figures.column}={self.figures.value}"


def limit_of(rule: AccuracyLimit, slices: SliceRules) -> float:
    """The limit of each slice; that of the whole where the policy states none."""
    return rule.limit if slices.limit is None else slices.limit


def parts(slices: SliceRules, rows: PairedResults, evidence: Evidence) -> Iterator[tuple[str, str, Losses | None]]:
    """Column, value and losses of every slice that the columns make; None where an expected value is not there.

    Columns that the results lack are left out.

    Raises:
        InvalidResults: a column makes more than 1,000 slices.
    """
    for column in slices.by:
        if column not in rows.columns:
            continue
        # Ten times as fast as np.unique on text.
        given = rows.columns[column].tolist()
        values = sorted(set(given))
        index_of = {value: index for index, value in enumerate(values)}
        which = np.fromiter(map(index_of.__getitem__, given), np.int64, len(given))
        if len(values) > MOST_SLICES:
            raise InvalidResults(
                expected=f"at most {MOST_SLICES:,} values of {column!r}, by which the policy slices",
                found=f"{len(values):,}",
                remedy="slice by what groups samples: device or class, not an id of each sample",
            )
        for index, value in enumerate(values):
            yield column, value, evidence.part(which == index)
        for value in slices.expected.get(column, ()):
            if value not in index_of:
                yield column, value, None


def judge_slices(rule: AccuracyLimit, rows: PairedResults, evidence: Evidence) -> tuple[list[Slice], list[Ruling]]:
    """Every slice with its figures, and what they say: all that do not pass, the worst with their own reasons.

    Raises:
        InvalidResults: a column makes more than 1,000 slices.
    """
    slices = rule.slices
    if slices is None:
        return [], []
    # Slices with equal counts have equal bounds.
    by_counts: dict[Tally, Slice] = {}
    judged = []
    for column, value, losses in parts(slices, rows, evidence):
        before = by_counts.get(losses) if isinstance(losses, Tally) else None
        one = before or _judged(rule, slices, losses, len(rows))
        if isinstance(losses, Tally):
            by_counts[losses] = one
        figures = one.figures.model_copy(update={"column": column, "value": value})
        judged.append(Slice(figures, one.reason, one.samples_needed))
    return judged, [*_missing(slices, rows), *_rulings(judged)]


def _judged(rule: AccuracyLimit, slices: SliceRules, losses: Losses | None, all_samples: int) -> Slice:
    limit = limit_of(rule, slices)
    if losses is None:
        return _held(losses, limit, "no sample, though the policy expects some, so inconclusive")
    if rule.unit is LossUnit.RELATIVE_PERCENT and losses.reference == 0.0:
        return _held(losses, limit, f"the reference scores 0 on all {losses.samples:,} samples, so inconclusive")
    bounded = Bounded.quickly(losses, rule, limit)
    verdict, reason, needed = bounded.verdict, bounded.told(rule, losses), 0
    helps = True
    few = losses.samples < slices.least_samples
    if verdict is Decision.INCONCLUSIVE or (few and verdict is Decision.APPROVED):
        verdict, reason = Decision.INCONCLUSIVE, f"{reason}, so inconclusive"
        if few:
            needed = slices.least_samples
            reason += f"; the policy asks for at least {needed:,} samples, have {losses.samples:,}"
        if bounded.verdict is Decision.INCONCLUSIVE:
            more, why = more_samples(rule, losses, limit)
            helps, needed, reason = more is not None, max(more or 0, needed), reason + why
    figures = SliceFigures(
        column="-",
        value="-",
        samples=losses.samples,
        loss=bounded.loss,
        loss_lower=bounded.lower,
        loss_upper=bounded.upper,
        limit=limit,
        outcome=verdict,
    )
    # For a slice to have more samples, the whole set must grow in proportion.
    whole = math.ceil(needed * all_samples / losses.samples)
    return Slice(figures, reason, whole if helps and needed else None)


def _held(losses: Losses | None, limit: float, reason: str) -> Slice:
    """A slice without any figure."""
    figures = SliceFigures(
        column="-",
        value="-",
        samples=losses.samples if losses else 0,
        loss=None,
        loss_upper=None,
        limit=limit,
        outcome=Decision.INCONCLUSIVE,
    )
    return Slice(figures, reason)


def _missing(slices: SliceRules, rows: PairedResults) -> list[Ruling]:
    return [
        Ruling(
            "slices",
            Decision.INCONCLUSIVE,
            f"slices: the results do not tell samples apart by {column!r}, as the policy asks, so inconclusive; "
            "evaluate the engine again on samples that carry it",
        )
        for column in slices.by
        if column not in rows.columns
    ]


def _rulings(slices: list[Slice]) -> list[Ruling]:
    worst = sorted(slices, key=_badness, reverse=True)
    blocking = [each for each in worst if each.figures.verdict is not Decision.APPROVED]
    if not blocking:
        summaries = [
            f"slices: {len(slices):,} within their limit, the nearest {one.name}: {one.reason}" for one in worst[:1]
        ]
        return [Ruling("slices", Decision.APPROVED, reason) for reason in summaries]
    listed, rest = blocking[:_NAMED], blocking[_NAMED:]
    rulings = [
        Ruling("slices", each.figures.verdict, f"slices: {each.name}: {each.reason}", each.samples_needed)
        for each in listed
    ]
    if rest:
        named = ", ".join(each.name for each in rest[:_NAMED]) + (", ..." if len(rest) > _NAMED else "")
        needed = [each.samples_needed for each in rest]
        rulings.append(
            Ruling(
                "slices",
                rest[0].figures.verdict,
                f"slices: {len(rest):,} more of {len(slices):,} are not within their limit: {named}",
                None if None in needed else max(filter(None, needed)),
            )
        )
    return rulings


def _badness(one: Slice) -> tuple[int, float]:
    """Failed before inconclusive, then by how far the bound lies above the limit."""
    upper = one.figures.loss_upper
    return SEVERITY.index(one.figures.verdict), math.inf if upper is None else upper - one.figures.limit
