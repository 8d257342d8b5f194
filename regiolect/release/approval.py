"""A person's approval, where a policy asks for one: what is asked, what was answered, and whether it still has to be.

An answer is kept under the build keys of the engines it is about, so that nobody is asked twice about the same engines.
Silence is not kept: the next release asks again.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AwareDatetime

from regiolect.contracts import (
    UNITS,
    ApprovedEngine,
    Contract,
    Decision,
    Digest,
    RegionId,
    RegionOutcome,
    approved_engine,
)
from regiolect.errors import ApprovalMissing
from regiolect.integrity import digest_of
from regiolect.storage import Store

APPROVALS = "approvals"
_FIGURES = ("target", "graph", "executes", "loss", "at most", "limit", "samples", "vs FP32", "p99")


class PersonsAnswer(Contract):
    """What a person said of a region's engines."""

    model: str
    region: RegionId
    build_keys: tuple[Digest, ...]
    approved: bool
    by: str
    comment: str
    at: AwareDatetime


def in_question(outcomes: Sequence[RegionOutcome], served: Sequence[str]) -> tuple[RegionOutcome, ...]:
    """The outcomes whose engines the gate approved and that are not served yet.

    Args:
        outcomes: one region's.
        served: build keys of what the region's champion holds.
    """
    return tuple(o for o in outcomes if o.decision is Decision.APPROVED and o.build_key not in served)


def answer_given(asked: Sequence[RegionOutcome], store: Store) -> PersonsAnswer | None:
    """What was answered about just these engines."""
    return store.get_record(APPROVALS, _key(asked), PersonsAnswer)


def keep_answer(asked: Sequence[RegionOutcome], answer: PersonsAnswer, store: Store) -> None:
    """Remember an answer, be it yes or no."""
    store.put_record(APPROVALS, _key(asked), answer)


def require_yes(answer: PersonsAnswer) -> None:
    """Raises ApprovalMissing if the person said no."""
    if not answer.approved:
        comment = f": {answer.comment}" if answer.comment else ""
        raise ApprovalMissing(
            expected=f"a person's approval of {answer.model} in {answer.region}",
            found=f"{answer.by} said no on {answer.at:%Y-%m-%d %H:%M %Z}{comment}",
            remedy="change what was objected to and release again, or ask anew with --force",
        )


def question(asked: Sequence[RegionOutcome]) -> str:
    """What is put in front of the person, as Markdown: every figure that the gate's decision rests on.

    A column per target and a row per figure: the page that asks is narrow, and hides what is wider than it.
    """
    first = asked[0]
    columns = [_FIGURES, *(_figures(approved) for approved in filter(None, map(approved_engine, asked)))]
    head, *rows = (f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True))
    lines = [
        f"**{first.model} in {first.title}** (`{first.region}`): the gate approved; this policy also asks a person.",
        "",
        head,
        f"|{' --- |' * len(columns)}",
        *rows,
    ]
    return "\n".join(lines)


def _figures(approved: ApprovedEngine) -> tuple[str, ...]:
    target, gate, timing = approved.engine.request.target, approved.decision, approved.evaluation.timing
    unit = UNITS[gate.unit]
    return (
        f"{approved.engine.request.place} ({target.backend})",
        approved.engine.request.precision.value,
        approved.attestation.summary(),
        f"{gate.loss:+z.2f} {unit}",
        f"{gate.loss_upper:+z.2f} at {gate.confidence:.0%}",
        f"{gate.threshold:g} {unit}",
        str(gate.samples),
        f"{timing.speedup:.2f}x",
        f"{timing.p99_ms:.2f} ms",
    )


def _key(asked: Sequence[RegionOutcome]) -> str:
    return digest_of(sorted(outcome.build_key for outcome in asked))
