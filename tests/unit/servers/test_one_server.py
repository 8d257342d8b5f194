"""What can be seen on a single server: PostgreSQL, which starts in a second."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from regiolect.cli.servers import print_stopped
from regiolect.errors import BackendUnavailable, ServerFailed, StorageError, UsageError
from regiolect.servers import processes
from regiolect.servers.local import LocalServers
from regiolect.servers.ports import HOST
from regiolect.servers.processes import ProcessId
from regiolect.servers.state import read_state
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
USUAL = 5432


@pytest.fixture
def usual_port_is_taken() -> Iterator[None]:
    """By us, or by another program that we leave alone."""
    with closing(socket.socket()) as listener:
        with suppress(OSError):
            listener.bind((HOST, USUAL))
            listener.listen()
        yield


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from regiolect.cli.app import main; main()", *arguments],
        cwd=ROOT,
        env={**os.environ, "REGIOLECT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_foreign_program_on_the_usual_port_is_left_alone(home: Path, usual_port_is_taken: None) -> None:
    (server,) = LocalServers(home).up(["postgres"])
    assert server.problem is None
    assert server.address != f"postgresql://{HOST}:{USUAL}"


def test_a_port_that_is_lost_between_its_choice_and_the_start_is_replaced(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[socket.socket] = []
    launch = processes.launch

    def too_late(*how: Any) -> ProcessId:
        if not others:
            (known,) = read_state(home / "servers" / "state.json").servers.values()
            others.extend(socket.create_server((HOST, port)) for port in known.ports.values())
        return launch(*how)

    monkeypatch.setattr(processes, "launch", too_late)
    (server,) = LocalServers(home, usual_ports=False).up(["postgres"])
    assert server.problem is None
    for other in others:
        assert server.address != f"postgresql://{HOST}:{other.getsockname()[1]}"
        other.close()


def test_a_server_that_cannot_start_is_named_with_its_log_and_what_was_started_with_it_is_stopped(home: Path) -> None:
    servers = LocalServers(home, usual_ports=False)
    servers.up(["postgres"])
    servers.down()
    with (servers.root / "postgres" / "data" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = on\n")
    with pytest.raises(ServerFailed) as failed:
        servers.up(["postgres", "s3"])
    assert "postgres" in failed.value.expected
    assert "exit code 1" in failed.value.found
    assert "no_such_setting" in failed.value.found
    assert str(servers.root / "logs" / "postgres.log") in failed.value.remedy
    assert [server.pid for server in servers.status()] == [None] * 4


def test_no_secret_is_in_the_error_of_a_server_that_prints_it(home: Path) -> None:
    servers = LocalServers(home, usual_ports=False)
    servers.up(["postgres"])
    servers.down()
    secrets = json.loads((servers.root / "credentials.json").read_text())
    with (servers.root / "postgres" / "data" / "postgresql.conf").open("a") as settings:
        settings.write(f"setting_{secrets['database_password']} = on\n")
    with pytest.raises(ServerFailed, match=r"setting_\*\*\*") as failed:
        servers.up(["postgres"])
    assert secrets["database_password"] not in str(failed.value)


def test_a_process_that_has_a_dead_servers_number_is_not_signalled(home: Path) -> None:
    servers = LocalServers(home, usual_ports=False)
    servers.up(["postgres"])
    servers.kill("postgres")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        state = json.loads((servers.root / "state.json").read_text())
        state["servers"]["postgres"]["process"]["pid"] = bystander.pid
        (servers.root / "state.json").write_text(json.dumps(state))
        # PostgreSQL's own lock names the bystander too, as it would if the number had been given out again.
        lock = servers.root / "postgres" / "data" / "postmaster.pid"
        lines = lock.read_text().splitlines(keepends=True)
        lock.write_text("".join([f"{bystander.pid}\n", *lines[1:]]))

        assert servers.status()[0].problem == "not running"
        servers.kill("postgres")
        servers.stop("postgres")
        assert servers.down() == ()
        (again,) = servers.up(["postgres"])
        assert again.pid != bystander.pid
        assert bystander.poll() is None
        bystander.communicate(b"\n")
        assert bystander.returncode == 0


def test_two_that_come_up_at_once_come_up_once(home: Path) -> None:
    starting = (
        "import sys; from pathlib import Path; from regiolect.servers.local import LocalServers; "
        "print(LocalServers(Path(sys.argv[1]), usual_ports=False).up(['postgres'])[0].pid)"
    )
    at_once = [
        subprocess.Popen([sys.executable, "-c", starting, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=PATIENCE)[0] for process in at_once)
    assert first == second
    assert psutil.pid_exists(int(first))


def test_a_damaged_state_is_not_guessed_from(home: Path) -> None:
    servers = LocalServers(home, usual_ports=False)
    servers.root.mkdir()
    (servers.root / "state.json").write_text("{")
    with pytest.raises(StorageError, match=r"state\.json"):
        servers.up(["postgres"])
    (servers.root / "state.json").unlink()


def test_damaged_credentials_are_neither_replaced_nor_shown(home: Path) -> None:
    servers = LocalServers(home, usual_ports=False)
    servers.root.mkdir()
    damaged = '{"access_key": "half", "secret_key": "of a fi'
    (servers.root / "credentials.json").write_text(damaged)
    with pytest.raises(StorageError) as refused:
        servers.up(["postgres"])
    assert "half" not in str(refused.value)
    assert (servers.root / "credentials.json").read_text() == damaged
    (servers.root / "credentials.json").unlink()


def test_a_missing_part_is_named_with_what_installs_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(BackendUnavailable, match="psycopg2") as missing:
        LocalServers(home).up(["postgres"])
    assert "regiolect[servers]" in missing.value.remedy
    assert not (home / "servers").exists()


def test_wrong_names_are_refused_before_anything_starts(home: Path) -> None:
    servers = LocalServers(home)
    with pytest.raises(UsageError, match="'redis'"):
        servers.up(["redis"])
    with pytest.raises(UsageError, match="regiolect up"):
        servers.start("s3")
    assert not (home / "servers").exists()


def test_the_command_leaves_servers_running_and_another_one_stops_them(home: Path) -> None:
    looked = command(home, "up", "--status")
    assert looked.returncode == 1
    assert "never started" in looked.stdout

    came = command(home, "up", "--only", "postgres")
    assert came.returncode == 0, came.stderr
    (server, *_) = LocalServers(home).status()
    assert server.problem is None
    assert str(server.pid) in came.stdout
    assert str(server.address) in came.stdout
    assert f"source {home / 'servers' / 'env.sh'}" in came.stdout

    went = command(home, "down")
    assert (went.returncode, went.stdout) == (0, "stopped: postgres; their data stays\n")
    assert LocalServers(home).status()[0].problem == "not running"
    assert command(home, "down").stdout == "nothing was running\n"


def test_whoever_stops_prefect_is_told_of_its_workers(capsys: pytest.CaptureFixture[str]) -> None:
    print_stopped(("postgres", "prefect"))
    assert "Workers go on and wait for it: end them where they were started" in capsys.readouterr().out


def test_the_command_names_a_server_that_fails(home: Path) -> None:
    data = home / "servers" / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    done = command(home, "up", "--only", "postgres")
    assert done.returncode == 1
    assert "ServerFailed" in done.stderr
    assert "Traceback" not in done.stderr
