"""The whole set of servers, once for the module that asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from regiolect.servers.files import write_private
from regiolect.servers.local import LocalServers

# As they were before Prefect and MLflow asked for a login.
OLD_CREDENTIALS = {
    "access_key": "RL0123456789ABCDEF01",
    "secret_key": "0123456789abcdef0123456789abcdef01234567",
    "database_password": "89abcdef0123456789abcdef0123456789abcdef",
    "inner_key": "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """In a home that an earlier version began."""
    made = LocalServers(tmp_path_factory.mktemp("home"), usual_ports=False)
    made.root.mkdir(mode=0o700)
    write_private(made.root / "credentials.json", json.dumps(OLD_CREDENTIALS))
    made.up()
    yield made
    made.down()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose servers are stopped in the end, whatever a test started."""
    yield tmp_path
    LocalServers(tmp_path).down()
