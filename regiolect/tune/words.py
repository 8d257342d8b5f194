"""How a tuning is told to people: one table, the default against the operating points."""

from __future__ import annotations

from collections.abc import Mapping

from regiolect.contracts import OperatingPoint, TunedEngine

HEAD = ("", "batch", "at once", "settings", "p50", "p99", "throughput", "against default")


def rows(tuned: TunedEngine) -> tuple[tuple[str, ...], ...]:
    """A row for the default, one for each operating point, and one for what was chosen where that is none of them."""
    points = [("default", tuned.default)]
    points += [("chosen" if point == tuned.chosen else "point", point) for point in tuned.points]
    if tuned.chosen is not None and tuned.chosen not in tuned.points:
        points.append(("chosen", tuned.chosen))
    return tuple(_row(name, point, tuned.default) for name, point in points)


def _row(name: str, point: OperatingPoint, default: OperatingPoint) -> tuple[str, ...]:
    return (
        name,
        str(point.batch),
        str(point.at_once),
        settings(point.configuration),
        f"{point.p50_ms:.3g} ms",
        f"{point.p99_ms:.3g} ms",
        f"{point.throughput:,.0f}/s",
        f"{point.p50_ms / default.p50_ms:.2f}x time, {point.throughput / default.throughput:.2f}x samples/s",
    )


def settings(configuration: Mapping[str, str]) -> str:
    """A configuration on one line."""
    return ", ".join(f"{name}={value}" for name, value in sorted(configuration.items())) or "as it comes"


def device(tuned: TunedEngine) -> str:
    """The device, in the words of its backend."""
    return ", ".join(f"{name} {value}" for name, value in sorted(tuned.device.items()))


def line(tuned: TunedEngine) -> str:
    """What tuning found, in a line."""
    default, point = tuned.default, tuned.point
    if tuned.chosen is None:
        text = f"nothing faster than the default by more than the noise ({default.p50_ms:.3g} ms"
    else:
        text = f"{settings(point.configuration)} at batch {point.batch} ({point.p50_ms:.3g} ms"
        text += f", {point.throughput:,.0f}/s; default {default.p50_ms:.3g} ms"
    most = tuned.points[-1].throughput
    return (
        f"{text}, {default.throughput:,.0f}/s); {len(tuned.points)} operating point"
        f"{'s' if len(tuned.points) > 1 else ''} up to {most:,.0f}/s; noise {tuned.noise:.1%}"
    )
