"""How a study says things: figures with a sign, and what they come to in sentences that are computed from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from regiolect.study.result import StudyResult, StudySaving, Verdict

# A pair's sign stands beside its loss, which is higher or lower than that of the region's own calibration.
SIGNS: Mapping[Verdict, str] = {Verdict.LOCAL: "▲", Verdict.FOREIGN: "▼", Verdict.MIXED: "◆", Verdict.NONE: ""}
MEANINGS: Mapping[Verdict, str] = {
    Verdict.LOCAL: "the foreign calibration loses more, in every draw and beyond what test samples can explain",
    Verdict.FOREIGN: "the foreign calibration loses less, in every draw and beyond what test samples can explain",
    Verdict.MIXED: "on average they differ beyond what test samples can explain, but some draw says the opposite",
    Verdict.NONE: "the difference is within what these test samples can explain",
}
# Of a pair that would have a verdict if it were looked at alone.
LEANINGS: Mapping[Verdict, str] = {Verdict.LOCAL: "△", Verdict.FOREIGN: "▽"}
_NAMED = 5  # pairs at most that a sentence names


def points(value: float) -> str:
    """`+0.12`: points with a sign, without a negative zero."""
    return f"{value:+z.2f}"


def span(low: float, high: float) -> str:
    """`-0.10 to +0.30`."""
    return f"{points(low)} to {points(high)}"


def percent(share: float) -> str:
    """`95 %`."""
    return f"{100 * share:g} %"


def sign(saving: StudySaving) -> str:
    """A pair's sign; empty where nothing can be said."""
    return SIGNS[saving.verdict] or LEANINGS.get(saving.leaning, "")


def verdict(saving: StudySaving) -> str:
    """`local is better`; `no difference shown, leans to local`."""
    leans = {Verdict.LOCAL: ", leans to local", Verdict.FOREIGN: ", leans to foreign"}
    return f"{saving.verdict}{leans.get(saving.leaning, '')}"


def key() -> tuple[tuple[str, str], ...]:
    """Every sign and what it says."""
    sure = [(sign, verdict.value) for verdict, sign in SIGNS.items() if sign]
    lean = [(sign, f"{verdict.value}, if this pair were the only one") for verdict, sign in LEANINGS.items()]
    return (*sure, *lean)


def findings(result: StudyResult) -> tuple[str, ...]:
    """What the study comes to, a sentence or two each: at home, where local saves, where not, and over all pairs."""
    return tuple(
        filter(
            None,
            (
                _at_home(result),
                _local(result),
                _other_way(result),
                _none(result),
                _leaning(result),
                _foreign(result),
                _mixed(result),
                _over_all(result),
            ),
        )
    )


def methods(result: StudyResult) -> tuple[str, ...]:
    """How the figures were made and what they do not say, a sentence or two each."""
    pairs, draws = len(result.savings), len(result.seeds)
    sizes = sorted({region.selection for region in result.regions})
    one = " / ".join(f"{100 / size:.2f}" for size in sizes)
    return (
        f"Each engine is {result.precision}, its thresholds chosen by {result.method} from {result.drawn} calibration "
        f"samples of one region. {draws} draws (seeds {result.seeds[0]} to {result.seeds[-1]}, the same in every "
        "region) were taken without replacement from the region's calibration set.",
        f"Loss: {result.metric} of FP32 less that of the engine, on the same samples, in points. Tested on the "
        f"regions' selection sets ({_numbers(sizes)} samples; one sample is {one} points). The gate sets were not "
        "opened.",
        "Lowest and highest are those of single draws. Draws of one region overlap, so no interval is computed from "
        "them: it would shrink with every seed although no new calibration sample was seen.",
        f"Intervals are over test samples, paired, for the mean over these draws: {percent(result.confidence)} for a "
        f"cell by itself; for a saving {percent(result.confidence)} for all {pairs} pairs together (Bonferroni). None "
        "is narrower than what as many samples without any difference would prove.",
        "A difference is called only where its interval leaves out zero, and is local's or foreign's only where every "
        "draw says the same. No difference shown is no proof that there is none.",
        "No cell and no draw was left out. Nothing of the study was registered or can be served.",
    )


def _at_home(result: StudyResult) -> str:
    home = [result.cell(each.region, each.region) for each in result.regions]
    least, most = min(home, key=lambda cell: cell.loss), max(home, key=lambda cell: cell.loss)
    worst = max(home, key=lambda cell: cell.highest)
    return (
        f"Calibrated on its own data, a region loses {points(least.loss)} ({least.tested_on}) to {points(most.loss)} "
        f"({most.tested_on}) points of {result.metric} against FP32, as means over {len(result.seeds)} draws; the "
        f"worst single draw loses {points(worst.highest)} ({worst.tested_on})."
    )


def _local(result: StudyResult) -> str:
    savings, pairs = result.with_verdict(Verdict.LOCAL), len(result.savings)
    if not savings:
        return f"In none of {pairs} pairs is local calibration shown to be better than a foreign one."
    donors = list(dict.fromkeys(each.calibrated_on for each in savings))
    whose = f" Each of them was calibrated on {donors[0]}." if len(donors) == 1 and len(savings) > 1 else ""
    return f"Local calibration saves points in {len(savings)} of {pairs} pairs: {_listed(savings)}.{whose}"


def _other_way(result: StudyResult) -> str:
    """Whether the harm goes both ways."""
    savings = result.with_verdict(Verdict.LOCAL)
    back = [saving for each in savings if (saving := result.saving(each.tested_on, each.calibrated_on)) is not None]
    if not back:
        return ""
    also = sum(saving.verdict is Verdict.LOCAL for saving in back)
    how_often = "In none of these pairs" if not also else f"In {also} of these {len(back)} pairs"
    values = [saving.saving for saving in back]
    return (
        f"{how_often} does local calibration save points the other way round as well: there it saves "
        f"{span(min(values), max(values))} points on average."
    )


def _none(result: StudyResult) -> str:
    savings, pairs = result.with_verdict(Verdict.NONE), len(result.savings)
    if not savings:
        return f"In each of {pairs} pairs a difference is shown."
    means = [each.saving for each in savings]
    most = max(max(each.upper, -each.lower) for each in savings)
    return (
        f"In {len(savings)} of {pairs} pairs no difference is shown: local calibration saves "
        f"{span(min(means), max(means))} points there on average, and the intervals leave room for at most {most:.2f} "
        "either way."
    )


def _leaning(result: StudyResult) -> str:
    savings, pairs = result.leaning(), len(result.savings)
    if not savings:
        return ""
    local = sum(each.leaning is Verdict.LOCAL for each in savings)
    by_chance = (1.0 - result.confidence) * pairs
    return (
        f"Looked at alone, {len(savings)} of these would be called, {local} for local and {len(savings) - local} for "
        f"foreign; of {pairs} such looks about {by_chance:.1f} would err by chance. The largest: {_alone(savings[0])}."
    )


def _foreign(result: StudyResult) -> str:
    savings, pairs = result.with_verdict(Verdict.FOREIGN), len(result.savings)
    if not savings:
        better = sum(each.saving < 0 for each in result.savings)
        looks = f" (it looks better in {better}, within what test samples can explain)" if better else ""
        return f"In none of {pairs} pairs is the foreign calibration shown to be better{looks}."
    return f"The foreign calibration is even better in {len(savings)} of {pairs} pairs: {_listed(savings)}."


def _mixed(result: StudyResult) -> str:
    savings = result.with_verdict(Verdict.MIXED)
    if not savings:
        return ""
    return f"In {len(savings)} of {len(result.savings)} pairs it depends on the draw: {_listed(savings)}."


def _over_all(result: StudyResult) -> str:
    savings = [each.saving for each in result.savings]
    return (
        f"Over all {len(savings)} pairs local calibration saves {points(median(savings))} points in the median and "
        f"{points(fmean(savings))} on average."
    )


def _listed(savings: Sequence[StudySaving]) -> str:
    named = "; ".join(
        f"{points(each.saving)} ({span(each.lower, each.upper)}) on {each.tested_on} against {each.calibrated_on}"
        for each in savings[:_NAMED]
    )
    rest = savings[_NAMED:]
    if not rest:
        return named
    return f"{named}; and {len(rest)} more of {span(*sorted((rest[0].saving, rest[-1].saving)))}"


def _alone(saving: StudySaving) -> str:
    interval = span(saving.lower_alone, saving.upper_alone)
    return f"{points(saving.saving)} ({interval} alone) on {saving.tested_on} against {saving.calibrated_on}"


def _numbers(values: Sequence[int]) -> str:
    return " / ".join(f"{value:,}" for value in values)


def called(result: StudyResult) -> tuple[StudySaving, ...]:
    """Pairs with a verdict, by verdict, then those that lean to one; of each the largest difference first."""
    sure = [each for verdict in Verdict if verdict is not Verdict.NONE for each in result.with_verdict(verdict)]
    return (*sure, *result.leaning())


def facts(result: StudyResult) -> tuple[tuple[str, str], ...]:
    """What the figures were made with, a name and a value each."""
    return (
        ("engines", f"{len(result.regions) * len(result.seeds)} of {result.precision}, one a region and draw"),
        ("backend", f"{result.backend} {result.backend_version}"),
        ("executed kernels", " / ".join(result.executed)),
        ("machine", _machine(result.machine)),
        ("libraries", result.toolchain),
        ("graph", result.graph),
        ("Regiolect", result.regiolect),
    )


def _machine(fingerprint: Mapping[str, str]) -> str:
    parts = {name: value for name, value in fingerprint.items() if name not in ("backend", "version")}
    if "cpu" in parts:
        return ", ".join(parts.pop(name) for name in ("cpu", "isa", "machine", "system") if name in parts)
    return ", ".join(f"{name} {value}" for name, value in parts.items())
