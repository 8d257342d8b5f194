"""`regiolect pools`: what keeps it from its server is said at once; the file it writes needs no server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from regiolect.cli.pools import pools_app
from regiolect.errors import InvalidPolicy, OrchestratorError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Set before it is deleted, so that what the command puts there is taken away again.
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "REGIOLECT_POLICIES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))


def test_without_a_server_the_way_to_one_is_told() -> None:
    with pytest.raises(OrchestratorError, match="regiolect up"):
        CliRunner().invoke(pools_app, ["apply"], catch_exceptions=False)


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound but not listening: a connection is refused, and nobody else can take the port.
        address = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        with pytest.raises(OrchestratorError, match=f"PREFECT_API_URL={address}"):
            CliRunner().invoke(pools_app, ["apply"], catch_exceptions=False)


def test_wrong_policies_are_told_before_the_server_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=str(tmp_path / "none")):
        CliRunner().invoke(pools_app, ["apply", "--policies", str(tmp_path / "none")], catch_exceptions=False)


def test_the_file_for_prefect_deploy_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    done = CliRunner().invoke(pools_app, ["write", str(tmp_path / "infra" / "prefect.yaml")], catch_exceptions=False)
    assert done.exit_code == 0
    content = yaml.safe_load((tmp_path / "infra" / "prefect.yaml").read_text())
    assert "release" in {each["name"] for each in content["deployments"]}
