"""Nightly times that are unclear twice a year: a zone's clocks leave them out in spring and show them twice in autumn.

>>> from datetime import UTC, datetime
>>> from regiolect.policy.rules import NightlyRules
>>> brussels = NightlyRules(cron="30 2 * * *", timezone="Europe/Brussels")
>>> for each in unclear_times(brussels, datetime(2027, 1, 1, tzinfo=UTC)):
...     print(each)
02:30 does not exist on 2027-03-28, when clocks of Europe/Brussels go from 02:00 to 03:00
02:30 comes twice on 2027-10-31, when clocks of Europe/Brussels go from 03:00 to 02:00
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim

from regiolect.policy.rules import NightlyRules

_DAYS = 366  # every zone that changes its clocks does so within a year
_MINUTE = timedelta(minutes=1)


def unclear_times(nightly: NightlyRules, after: datetime) -> tuple[str, ...]:
    """What is unclear about a nightly's time within a year of `after`, a sentence for each change of the clocks."""
    # UTC needs no time zone data, and its clocks never change.
    if nightly.timezone == "UTC":
        return ()
    zone = ZoneInfo(nightly.timezone)
    return tuple(
        sentence
        for change in _changes(zone, after.astimezone(UTC))
        if (sentence := _unclear(nightly, zone, change)) is not None
    )


def _unclear(nightly: NightlyRules, zone: tzinfo, change: datetime) -> str | None:
    """`change` is the first minute with the new offset."""
    old, new = (_wall(change, _offset(at, zone)) for at in (change - _MINUTE, change))
    # As clocks show it, without a zone: in one, the times that are asked for would be corrected silently.
    time = next(CronSim(nightly.cron, min(old, new) - _MINUTE), None)
    if time is None or time >= max(old, new):
        return None
    what = "does not exist" if old < new else "comes twice"
    clocks = f"clocks of {nightly.timezone} go from {old:%H:%M} to {new:%H:%M}"
    return f"{time:%H:%M} {what} on {time:%Y-%m-%d}, when {clocks}"


def _changes(zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """The minutes, in UTC, in which the zone's offset is not any more what it was in the minute before."""
    start = after.replace(second=0, microsecond=0)
    for day in range(_DAYS):
        low, high = start + timedelta(days=day), start + timedelta(days=day + 1)
        if _offset(low, zone) == _offset(high, zone):
            continue
        while high - low > _MINUTE:
            middle = low + ((high - low) // _MINUTE // 2) * _MINUTE
            low, high = (middle, high) if _offset(middle, zone) == _offset(low, zone) else (low, middle)
        yield high


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _wall(at: datetime, offset: timedelta) -> datetime:
    return at.replace(tzinfo=None) + offset
