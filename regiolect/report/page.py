"""From a release's result to its page."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect import __version__
from regiolect.contracts import (
    UNITS,
    CalibrationTable,
    CheckResult,
    Decision,
    Precision,
    RegionOutcome,
    ReleaseResult,
    ReleaseRow,
    short,
)
from regiolect.integrity import write_atomic
from regiolect.report import words
from regiolect.report.charts import loss_plot, speed_plot
from regiolect.report.layers import LayerLists, LayerView, layer_view, most_lines
from regiolect.tune import words as tuning_words

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Entry:
    """A row of the release with what lies behind it; no outcome where nothing was started."""

    row: ReleaseRow
    outcome: RegionOutcome | None
    anchor: str
    layers: LayerView | None

    @property
    def loss(self) -> words.LossFigures | None:
        return words.LossFigures.of(self.row)

    @property
    def beside(self) -> words.ChampionFigures | None:
        return words.ChampionFigures.of(self.row)

    @property
    def scores(self) -> str | None:
        return None if self.outcome is None else words.score_words(self.outcome.evaluation)

    @property
    def surely(self) -> float | None:
        """The lower bound of its speed against FP32."""
        evaluation = self.outcome.evaluation if self.outcome else None
        return None if evaluation is None else evaluation.timing.speedup_lower

    @property
    def size(self) -> str | None:
        engine = self.outcome.engine if self.outcome else None
        return None if engine is None else words.size_words(engine.size)

    @property
    def graph(self) -> str:
        return words.graph_words(self.row)

    @property
    def kernels(self) -> str:
        return words.kernel_words(self.row)

    @property
    def failed_checks(self) -> tuple[CheckResult, ...]:
        return tuple(check for check in self.outcome.checks if not check.passed) if self.outcome else ()

    @property
    def unserved(self) -> bool:
        """Whether the gate approved an engine that nobody can load."""
        return self.row.decision is Decision.APPROVED and self.row.model_uri is None


@dataclass(frozen=True)
class Provenance:
    """A calibration table, the region whose engines were quantized with it, and their targets."""

    region: str
    table: CalibrationTable
    digest: str | None
    targets: tuple[str, ...]


def write_report(
    result: ReleaseResult, outcomes: Sequence[RegionOutcome], folder: Path, layers: LayerLists | None = None
) -> ReleaseResult:
    """Write `<folder>/<model>-<start time in UTC>.html` and, beside it, the result as JSON.

    Args:
        outcomes: what lies behind the rows: checks, calibration, attestation.
        layers: what lies behind the attestations; see `layers_of`.

    Returns:
        The result with the report's path in it.

    Raises:
        StorageError: the folder cannot be written.
    """
    path = folder / f"{result.model}-{result.started.astimezone(UTC):%Y%m%dT%H%M%S}.html"
    written = result.model_copy(update={"report": str(path)})
    write_atomic(path, render(written, outcomes, layers).encode())
    write_atomic(path.with_suffix(".json"), written.model_dump_json(indent=2).encode())
    return written


def render(result: ReleaseResult, outcomes: Sequence[RegionOutcome], layers: LayerLists | None = None) -> str:
    """The page as HTML that refers to nothing outside itself. Equal arguments give equal text, on any machine."""
    by_key = {outcome.build_key: outcome for outcome in outcomes}
    lists = layers or {}
    most = most_lines(len(lists))
    entries = []
    for number, row in enumerate(result.rows, 1):
        outcome = by_key.get(row.build_key or "")
        entries.append(Entry(row, outcome, f"engine-{number}", layer_view(outcome, lists, most)))
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            result=result,
            started=result.started.astimezone(UTC),
            entries=entries,
            headline=_headline(result),
            alarms=_alarms(result),
            counts=_counts(result),
            served=sum(row.model_uri is not None for row in result.rows),
            by_precision=_by_precision(entries),
            groups={decision.name.lower(): [e for e in entries if e.row.decision is decision] for decision in Decision},
            unserved=[entry for entry in entries if entry.unserved],
            attested=[entry for entry in entries if entry.layers],
            choices=[entry for entry in entries if entry.outcome and entry.outcome.repair],
            tuned=[entry for entry in entries if entry.outcome and entry.outcome.tuning],
            tuning_words=tuning_words,
            units=UNITS,
            provenance=_provenance(entries),
            uncalibrated=_uncalibrated(entries),
            confidences=sorted({entry.loss.confidence for entry in entries if entry.loss}),
            samples=sorted({row.samples for row in result.rows if row.samples}),
            machines=_machines(entries),
            wider=any(words.runs_wider(entry.row) for entry in entries),
            loss_plot=loss_plot(result.rows, result.drills),
            speed_plot=speed_plot(result.rows),
            registry=result.tracking_uri,
            loading=next((row.model_uri for row in result.rows if row.model_uri), None),
            build_words=words.build_words,
            signs=words.SIGNS,
            meanings=words.MEANINGS,
            version=__version__,
        )
    )


@functools.cache
def templates() -> Environment:
    """Where pages come from; everything that they are given is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("regiolect.report"),
        # Always: select_autoescape() goes by the file name and leaves `.html.j2` unescaped.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    environment.filters["signed"] = "{:+z.2f}".format
    return environment


def _counts(result: ReleaseResult) -> dict[Decision, int]:
    """How many engines came to each decision, in the order of Decision; only decisions that occur."""
    counts = {decision: sum(row.decision is decision for row in result.rows) for decision in Decision}
    return {decision: count for decision, count in counts.items() if count}


def _headline(result: ReleaseResult) -> str:
    if not result.rows:
        return "This run was asked for no engine."
    served = sum(row.model_uri is not None for row in result.rows)
    regions = len({row.region for row in result.rows})
    decisions = [f"{count} {decision.value}" for decision, count in _counts(result).items()]
    return (
        f"{words.counted(len(result.rows), 'engine')} for {words.counted(regions, 'region')}: {'; '.join(decisions)}. "
        f"{served} served through the registry."
    )


def _alarms(result: ReleaseResult) -> list[str]:
    """What somebody must look at, worst first."""
    drills = [f"a deliberate drill was not refused: {drill.name}" for drill in result.drills if not drill.refused]
    unserved = [row.region for row in result.rows if row.decision is Decision.APPROVED and row.model_uri is None]
    blocked = [
        f"{decision.value}: {', '.join(_named(row for row in result.rows if row.decision is decision))}"
        for decision in (Decision.FAILED, Decision.INCONCLUSIVE, Decision.REFUSED)
        if any(row.decision is decision for row in result.rows)
    ]
    odd = [
        f"{where}: {suspicion}" for row in result.rows if (suspicion := words.suspicion(row)) for where in _named([row])
    ]
    return drills + odd + ([f"approved but not served: {', '.join(unserved)}"] if unserved else []) + blocked


def _named(rows: Iterable[ReleaseRow]) -> list[str]:
    return [f"{row.region} on {row.place}" if row.place else row.region for row in rows]


def _by_precision(entries: Sequence[Entry]) -> dict[str, dict[str, list[Entry]]]:
    """Precision, widest first, to region to that region's engines; what has no precision comes last."""
    groups: dict[str, dict[str, list[Entry]]] = {}
    for precision in (*Precision, None):
        for entry in entries:
            if entry.row.precision is precision:
                name = precision.value if precision else "no precision known"
                groups.setdefault(name, {}).setdefault(entry.row.region, []).append(entry)
    return groups


def _provenance(entries: Sequence[Entry]) -> list[Provenance]:
    """Each region's calibration tables, one line a table, with the targets that share it."""
    lines: dict[tuple[str, str | None], Provenance] = {}
    for entry in entries:
        outcome = entry.outcome
        if outcome is None or outcome.calibration is None:
            continue
        digest = outcome.engine.calibration if outcome.engine else None
        before = lines.get((outcome.region, digest))
        targets = (*(before.targets if before else ()), outcome.place)
        lines[outcome.region, digest] = Provenance(outcome.region, outcome.calibration, digest, targets)
    return list(lines.values())


def _uncalibrated(entries: Sequence[Entry]) -> list[str]:
    """Regions whose engines were built without calibration."""
    built = [entry.outcome for entry in entries if entry.outcome and entry.outcome.engine]
    return list(dict.fromkeys(outcome.region for outcome in built if outcome.calibration is None))


def _machines(entries: Sequence[Entry]) -> list[str]:
    """The machines that the figures were measured on, as the engines name them."""
    timed = [entry.outcome for entry in entries if entry.outcome and entry.outcome.evaluation]
    return list(dict.fromkeys(_machine(outcome.engine.fingerprint) for outcome in timed if outcome.engine))


def _machine(fingerprint: Mapping[str, str]) -> str:
    if "cpu" in fingerprint:
        return f"{fingerprint['cpu']} ({fingerprint['isa']})" if "isa" in fingerprint else fingerprint["cpu"]
    return ", ".join(f"{name} {value}" for name, value in sorted(fingerprint.items()))
