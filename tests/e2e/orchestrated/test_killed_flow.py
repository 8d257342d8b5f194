"""The process that releases dies at the end of every stage; the next takes the work up, and nothing is done twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from regiolect.servers.local import LocalServers
from tests.e2e.orchestrated.conftest import Sites
from tests.e2e.orchestrated.faulty import BORDERS, PASSES
from tests.e2e.orchestrated.yard import Yard, opened


@pytest.fixture(scope="module")
def yard(sites: Sites, servers: LocalServers) -> Iterator[Yard]:
    with opened(
        sites, servers, "west", seed=200, tuning={"minutes": 1.0}, batch={"min": 1, "opt": 2, "max": 2}
    ) as made:
        yield made


# Between an upload and its version; tests/flows/test_failures.py kills one in a build, tests/unit/tune/ a tuning.
SOME = ("run uploaded",)


@pytest.mark.parametrize(
    "borders", [pytest.param(SOME, id="some"), pytest.param(tuple(BORDERS), id="all", marks=pytest.mark.acceptance)]
)
def test_the_flow_may_be_killed_at_a_stages_end(yard: Yard, borders: tuple[str, ...]) -> None:
    """One piece of work, killed once at each border, taken up by the next process each time."""
    yard.new_work()
    for border in borders:
        assert yard.release(border, "flow") == -signal.SIGKILL, f"{border} was not reached"
        yard.assert_nothing_half_registered()
    assert yard.release() == 0
    yard.assert_served_once()
    again = {stage: count for stage, count in yard.stages().items() if count > 1}
    assert yard.stages()["exported"] >= 1
    # The journal was kept when it was begun, once all were warmed up and after each pass. No pass was measured twice: a
    # tuning that is killed goes on from its journal, and has nothing left to measure once it was at its end.
    assert 2 < yard.stages()["measured once"] <= 2 + PASSES
    for finished in ("outcome kept", "version made"):
        assert again.get(finished, 1) == 1, f"{finished} {again[finished]} times"
