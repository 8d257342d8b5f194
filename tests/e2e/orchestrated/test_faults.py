"""A server dies at the end of a stage, and the next release completes the work: nothing that was finished is built
twice, every engine is registered once, and no champion is an orphan.

test_killed_flow.py kills the process that releases, test_release.py a worker.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regiolect.servers.local import LocalServers
from tests.e2e.orchestrated.conftest import Sites
from tests.e2e.orchestrated.faulty import BORDERS
from tests.e2e.orchestrated.yard import Yard, opened

# Which server dies where: where it is needed next, and once where it is not.
SERVERS_DIE = [
    ("exported", "s3"),
    ("ingested", "prefect"),
    ("built", "s3"),
    ("evaluated", "postgres"),
    ("outcome kept", "mlflow"),
    ("bundle written", "s3"),
    ("run uploaded", "mlflow"),
    ("version made", "mlflow"),
    ("aliases moved", "prefect"),
]
# One that stays down until the release has ended, and one that comes up again; the others belong to the full count.
SOME = {("built", "s3"), ("evaluated", "postgres")}
FAULTS = [pytest.param(*each, marks=() if each in SOME else pytest.mark.acceptance) for each in SERVERS_DIE]


@pytest.fixture(scope="module")
def yard(sites: Sites, servers: LocalServers) -> Iterator[Yard]:
    with opened(sites, servers, "east", seed=100) as made:
        yield made


@pytest.mark.parametrize(("border", "victim"), FAULTS)
def test_a_server_may_die_at_a_stages_end(yard: Yard, border: str, victim: str) -> None:
    yard.new_work()
    yard.release(border, victim)
    assert yard.stages()[border] >= 1, f"{border} was not reached"
    yard.assert_nothing_half_registered()
    assert yard.release() == 0
    yard.assert_served_once()
    assert yard.stages()["version made"] == 1


def test_the_faults_are_as_many_as_promised() -> None:
    assert len(BORDERS) + len(SERVERS_DIE) >= 20
    assert {border for border, _ in SERVERS_DIE} <= set(BORDERS)
