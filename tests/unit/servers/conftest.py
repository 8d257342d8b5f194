"""The whole set of servers, once for the module that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regiolect.servers.local import LocalServers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    made = LocalServers(tmp_path_factory.mktemp("home"), usual_ports=False)
    made.up()
    yield made
    made.down()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose servers are stopped in the end, whatever a test started."""
    yield tmp_path
    LocalServers(tmp_path).down()
