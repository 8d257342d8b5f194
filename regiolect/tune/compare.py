"""One engine tuned on two devices of one type, in two sites: does one of them lag behind?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path, PurePath

from pydantic import PositiveFloat, PositiveInt, ValidationError

from regiolect.contracts import Configuration, Contract, OperatingPoint, TunedEngine, TuningJournal
from regiolect.errors import TuningError
from regiolect.host.files import RECORD, read_file
from regiolect.tune.figures import CONTROL, LEAST_PASSES, measured, noise


class SiteFigures(Contract):
    """What one site measured: the same engine's operating points on its device.

    path: of the file that says so, by which `compare` names the site.
    note: what every reader must know of where the figures come from.
    """

    path: PurePath
    engine: str
    device: Mapping[str, str]
    noise: float
    points: tuple[OperatingPoint, ...]
    note: str = ""


class ComparedPoint(Contract):
    """One batch and configuration in both sites; `ratio` is the second's time over the first's."""

    batch: PositiveInt
    configuration: Configuration
    first_ms: PositiveFloat
    second_ms: PositiveFloat
    ratio: PositiveFloat


class DeviceComparison(Contract):
    """Two sites beside each other. `lag` is the share by which `slower` takes longer, the median over all points.

    slower: None while the two differ by no more than `noise`, the larger of what they differ from themselves.
    """

    first: str
    second: str
    noise: float
    lag: float
    slower: str | None
    points: tuple[ComparedPoint, ...]
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """`lyon lags behind oslo: 23.1 % slower, noise 2.0 %`."""
        lag = f"{abs(self.lag):.1%}, noise {self.noise:.1%}, over {len(self.points)} points in common"
        if self.slower is None:
            return f"{self.first} and {self.second} are alike: they differ by {lag}"
        faster = self.first if self.slower == self.second else self.second
        return f"{self.slower} lags behind {faster}: slower by {lag}"


def read_site(path: Path) -> SiteFigures:
    """What a site measured, from the JSON of a TuningJournal or of a TunedEngine.

    Raises:
        TuningError: it is neither, or a journal that measured too little.
    """
    try:
        data = read_file(path, RECORD)
    except OSError as error:
        raise TuningError(
            expected=f"to read a tuning at {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="name two files: journals from the store or from bundles (tuning/<target>.json)",
        ) from error
    for kind in (TuningJournal, TunedEngine):
        try:
            content = kind.model_validate_json(data)
        except ValidationError:
            continue
        return _of_journal(path, content) if isinstance(content, TuningJournal) else _of_tuned(path, content)
    raise TuningError(
        expected=f"a TuningJournal or a TunedEngine of format 1 as JSON at {path}",
        found="something else",
        remedy="name journals from the store or from bundles (tuning/<target>.json)",
    )


def compare(first: SiteFigures, second: SiteFigures) -> DeviceComparison:
    """Compare one engine on two devices of one type. A site has its file's name; where both files have the same, as in
    stores and bundles, the name of the nearest folders above them that differ.

    Raises:
        TuningError: they are of two engines or of two types of device, or have no point in common.
    """
    one_site, other_site = _names(first.path, second.path)
    for what, one, other in (
        ("engine", {"build key": first.engine}, {"build key": second.engine}),
        ("type of device", dict(first.device), dict(second.device)),
    ):
        differs = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        if differs:
            raise TuningError(
                expected=f"two tunings of one {what}, {one_site}'s with {differs[0]} {one.get(differs[0])}",
                found=f"{other_site}'s with {differs[0]} {other.get(differs[0])}",
                remedy="compare journals of the same engine on devices of the same type; what differs is no lag",
            )
    theirs = {_key(point): point for point in second.points}
    points = tuple(
        ComparedPoint(
            batch=point.batch,
            configuration=point.configuration,
            first_ms=point.p50_ms,
            second_ms=theirs[_key(point)].p50_ms,
            ratio=theirs[_key(point)].p50_ms / point.p50_ms,
        )
        for point in first.points
        if _key(point) in theirs
    )
    if not points:
        raise TuningError(
            expected=f"a batch and configuration that both {one_site} and {other_site} measured",
            found="none",
            remedy="tune both with the same number of minutes",
        )
    # Of logarithms, so that it does not matter which site comes first.
    ratio = math.exp(statistics.median(math.log(point.ratio) for point in points))
    lag, floor = max(ratio, 1 / ratio) - 1, max(first.noise, second.noise)
    slower = (other_site if ratio > 1 else one_site) if lag > floor else None
    notes = tuple(f"{name}: {each.note}" for name, each in ((one_site, first), (other_site, second)) if each.note)
    return DeviceComparison(
        first=one_site, second=other_site, noise=floor, lag=lag, slower=slower, points=points, notes=notes
    )


def _names(first: PurePath, second: PurePath) -> tuple[str, str]:
    """What tells two files apart in a word, from their ends; their stem if they are one file."""
    pairs = zip((first.stem, *first.parts[-2::-1]), (second.stem, *second.parts[-2::-1]), strict=False)
    return next(((one, other) for one, other in pairs if one != other), (first.stem, second.stem))


def _of_journal(path: Path, journal: TuningJournal) -> SiteFigures:
    floor = noise(journal)
    if floor is None:
        raise TuningError(
            expected=f"a journal at {path} with at least {LEAST_PASSES} passes",
            found=f"{len(journal.passes)}",
            remedy="tune there with more minutes, which goes on from the journal",
        )
    points = tuple(
        each.point for each in measured(journal).values() if each.passes >= LEAST_PASSES and each.place != CONTROL
    )
    return SiteFigures(
        path=path.resolve(),
        engine=journal.build_key,
        device=journal.device,
        noise=floor,
        points=points,
        note=journal.note,
    )


def _of_tuned(path: Path, tuned: TunedEngine) -> SiteFigures:
    points = {_key(point): point for point in (tuned.default, *tuned.points, tuned.point)}
    return SiteFigures(
        path=path.resolve(),
        engine=tuned.build_key,
        device=tuned.device,
        noise=tuned.noise,
        points=tuple(points.values()),
    )


def _key(point: OperatingPoint) -> tuple[int, tuple[tuple[str, str], ...]]:
    return point.batch, tuple(sorted(point.configuration.items()))
