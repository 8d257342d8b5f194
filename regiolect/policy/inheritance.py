"""What a child inherits, and what it may not change: it may tighten what its parent says and never loosen it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regiolect.policy.rules import AccuracyLimit, RegionPolicy
from regiolect.precision import wider_or_equal


def merged(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's fields with the child's on top; mappings merge, everything else is replaced whole."""
    result = dict(parent)
    for key, value in child.items():
        inherited = result.get(key)
        if isinstance(value, Mapping) and isinstance(inherited, Mapping):
            value = merged(inherited, value)
        result[key] = value
    return result


def loosened(parent: RegionPolicy, child: RegionPolicy) -> list[str]:
    """What the child allows and the parent does not, in words that name the fields by their full keys."""
    reasons = []
    if not wider_or_equal(child.precision, parent.precision):
        reasons.append(f"precision {child.precision}, coarser than {parent.precision}")
    dropped = [kind.value for kind in parent.forbidden if kind not in child.forbidden]
    if dropped:
        reasons.append(f"forbidden no longer lists {', '.join(dropped)}")
    if (child.accuracy.metric, child.accuracy.unit) != (parent.accuracy.metric, parent.accuracy.unit):
        reasons.append("accuracy.metric or accuracy.unit differs, so that the limits cannot be compared")
    if child.accuracy.limit > parent.accuracy.limit:
        reasons.append(f"accuracy.limit {child.accuracy.limit:g} above {parent.accuracy.limit:g}")
    if child.accuracy.confidence < parent.accuracy.confidence:
        reasons.append(f"accuracy.confidence {child.accuracy.confidence:g} below {parent.accuracy.confidence:g}")
    if parent.accuracy.least is not None and (
        child.accuracy.least is None or child.accuracy.least < parent.accuracy.least
    ):
        reasons.append(f"accuracy.least {_told(child.accuracy.least)} below {parent.accuracy.least:g}")
    stated = (parent.accuracy.regression, child.accuracy.regression) != (None, None)
    if stated and child.accuracy.regression_limit > parent.accuracy.regression_limit:
        reasons.append(
            f"accuracy.regression {child.accuracy.regression_limit:g} above {parent.accuracy.regression_limit:g}"
        )
    reasons += _loosened_slices(parent.accuracy, child.accuracy)
    if parent.latency and (child.latency is None or child.latency.p99_ms > parent.latency.p99_ms):
        now = _told(child.latency.p99_ms if child.latency else None)
        reasons.append(f"latency.p99_ms {now}, above {parent.latency.p99_ms:g}")
    if parent.latency and child.latency and _above(child.latency.p50_ms, parent.latency.p50_ms):
        reasons.append(f"latency.p50_ms {_told(child.latency.p50_ms)}, above {_told(parent.latency.p50_ms)}")
    reasons += _loosened_speed(parent, child)
    timed = "latency.p99_ms" if parent.latency else "speed" if parent.speed else None
    if timed and (child.performance, child.batch) != (parent.performance, parent.batch):
        reasons.append(f"performance or batch differs, so that {timed} would be measured on something else")
    reshaped = [name for name, profile in parent.shapes.items() if child.shapes.get(name) != profile]
    if timed and reshaped:
        reasons.append(f"shapes.{reshaped[0]} differs, so that {timed} would be measured on something else")
    if parent.approval and child.approval is None:
        reasons.append("approval is left out, so that nobody would be asked")
    if child.calibration.method != parent.calibration.method:
        reasons.append(f"calibration.method {child.calibration.method} instead of {parent.calibration.method}")
    reasons += _loosened_classes(parent, child)
    oldest, allowed = child.calibration.max_age_days, parent.calibration.max_age_days
    if allowed is not None and (oldest is None or oldest > allowed):
        reasons.append(f"calibration.max_age_days {'none' if oldest is None else f'{oldest:g}'}, above {allowed:g}")
    unlocked = set(child.wider_precisions()) - {*parent.wider_precisions(), parent.precision}
    if unlocked:
        reasons.append(f"repair.fallback allows {', '.join(sorted(unlocked))}")
    if child.repair.least_speedup < parent.repair.least_speedup:
        reasons.append(f"repair.least_speedup {child.repair.least_speedup:g} below {parent.repair.least_speedup:g}")
    for split, fewest in parent.samples.by_split().items():
        if child.samples.by_split()[split] < fewest:
            reasons.append(f"samples.{split} {child.samples.by_split()[split]} below {fewest}")
    return reasons


def _loosened_classes(parent: RegionPolicy, child: RegionPolicy) -> list[str]:
    now = {target.name: target.arithmetic for target in child.targets}
    return [
        f"targets: {target.name} takes arithmetic {' '.join(now[target.name]) or 'of any class'}, not only "
        f"{' '.join(target.arithmetic)}"
        for target in parent.targets
        if target.arithmetic and target.name in now
        if not now[target.name] or not set(now[target.name]) <= set(target.arithmetic)
    ]


def _loosened_slices(parent: AccuracyLimit, child: AccuracyLimit) -> list[str]:
    if parent.slices is None:
        return []
    if child.slices is None:
        return ["accuracy.slices is left out"]
    reasons = []
    dropped = [column for column in parent.slices.by if column not in child.slices.by]
    if dropped:
        reasons.append(f"accuracy.slices.by no longer lists {', '.join(dropped)}")
    # Without a limit of their own, slices have that of the whole.
    limit = parent.limit if parent.slices.limit is None else parent.slices.limit
    now = child.limit if child.slices.limit is None else child.slices.limit
    if now > limit:
        reasons.append(f"accuracy.slices.limit {now:g} above {limit:g}")
    if child.slices.least_samples < parent.slices.least_samples:
        reasons.append(
            f"accuracy.slices.least_samples {child.slices.least_samples} below {parent.slices.least_samples}"
        )
    for column, values in parent.slices.expected.items():
        missing = [value for value in values if value not in child.slices.expected.get(column, ())]
        if missing:
            reasons.append(f"accuracy.slices.expected no longer lists {column} {', '.join(missing)}")
    return reasons


def _loosened_speed(parent: RegionPolicy, child: RegionPolicy) -> list[str]:
    if parent.speed is None:
        return []
    if child.speed is None:
        return ["speed is left out"]
    return [
        f"speed.{name} {_told(now)} below {_told(least)}"
        for name, now, least in (
            ("least_throughput", child.speed.least_throughput, parent.speed.least_throughput),
            ("least_speedup", child.speed.least_speedup, parent.speed.least_speedup),
        )
        if least is not None and (now is None or now < least)
    ]


def _above(now: float | None, limit: float | None) -> bool:
    return limit is not None and (now is None or now > limit)


def _told(figure: float | None) -> str:
    return "none" if figure is None else f"{figure:g}"
