"""Which local servers there are, in which order they start, and what each needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from regiolect.errors import UsageError
from regiolect.servers import object_store, orchestration, postgresql, tracking
from regiolect.servers.server import Place, Server


class Entry(NamedTuple):
    """How a server is made for a place, its usual ports by their use, and the servers that it cannot do without."""

    make: Callable[[Place], Server]
    ports: Mapping[str, int]
    needs: tuple[str, ...] = ()


CATALOG: Mapping[str, Entry] = {
    postgresql.NAME: Entry(postgresql.postgresql, postgresql.PORTS),
    object_store.NAME: Entry(object_store.object_store, object_store.PORTS),
    tracking.NAME: Entry(tracking.tracking, tracking.PORTS, (postgresql.NAME, object_store.NAME)),
    orchestration.NAME: Entry(orchestration.orchestration, orchestration.PORTS, (postgresql.NAME,)),
}
NAMES = tuple(CATALOG)
# Started one stage after the other, the servers of a stage side by side; stopped the other way round.
STAGES = (
    tuple(name for name, entry in CATALOG.items() if not entry.needs),
    tuple(name for name, entry in CATALOG.items() if entry.needs),
)


def server_of(place: Place, name: str) -> Server:
    """The server `name` of a place."""
    return CATALOG[name].make(place)


def with_needs(names: Sequence[str]) -> tuple[str, ...]:
    """The named servers and what they need, in the order in which they start. Raises UsageError for other names."""
    require_names(names)
    wanted = {*names, *(need for name in names for need in CATALOG[name].needs)}
    return tuple(name for name in NAMES if name in wanted)


def require_names(names: Sequence[str]) -> None:
    """Raises UsageError unless all of them are names of servers."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise UsageError(
            expected=f"names of local servers: {', '.join(NAMES)}",
            found=", ".join(map(repr, unknown)),
            remedy="correct the name",
        )
