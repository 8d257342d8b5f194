"""All four servers, real ones: up, again, killed, mended, taken down, and up with their data."""

from __future__ import annotations

import json
import shlex
import socket
import stat
import subprocess
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any

import boto3
import httpx
import psutil
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from regiolect.policy import PolicyBook
from regiolect.servers.catalog import NAMES
from regiolect.servers.local import LocalServers, Status
from regiolect.servers.ports import HOST, is_free

PASSWORD_FILES = ("credentials.json", "pgpass", "s3/s3.json", "env.sh", "state.json")


def pids(found: Iterable[Status]) -> dict[str, int | None]:
    return {server.name: server.pid for server in found}


def ask(url: str, body: dict[str, Any] | bytes | None = None, method: str | None = None) -> bytes:
    method = method or ("GET" if body is None else "POST")
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    with httpx.Client(trust_env=False, timeout=30, follow_redirects=True) as client:
        answer = client.request(method, url, content=data, headers={"Content-Type": "application/json"})
    answer.raise_for_status()
    return answer.content


def s3(said: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=said["AWS_ENDPOINT_URL"],
        aws_access_key_id=said["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=said["AWS_SECRET_ACCESS_KEY"],
        region_name=said["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


def secrets_of(servers: LocalServers) -> list[str]:
    kept = json.loads((servers.root / "credentials.json").read_text())
    assert len(kept) == 4
    return list(kept.values())


def family(servers: LocalServers) -> list[psutil.Process]:
    leaders = [psutil.Process(pid) for pid in pids(servers.status()).values() if pid is not None]
    assert len(leaders) == len(NAMES)
    return [member for leader in leaders for member in (leader, *leader.children(recursive=True))]


# ------------------------------------------------------------------------------------------------------ all are up


def test_all_are_well_and_a_second_up_changes_nothing(servers: LocalServers) -> None:
    before = servers.status()
    assert [server.name for server in before] == list(NAMES)
    assert [server.problem for server in before] == [None] * 4
    said = servers.environment()
    again = servers.up()
    assert pids(again) == pids(before)
    assert [server.seconds for server in again] == [None] * 4
    assert servers.environment() == said


def test_another_process_that_looks_at_the_same_home_sees_the_same_servers(servers: LocalServers) -> None:
    other = LocalServers(servers.root.parent)
    assert pids(other.up()) == pids(servers.status())
    assert other.environment() == servers.environment()


def test_they_listen_on_this_machine_alone(servers: LocalServers) -> None:
    listening = []
    for member in family(servers):
        # PostgreSQL's processes come and go with their clients.
        with suppress(psutil.NoSuchProcess):
            listening += [at.laddr for at in member.net_connections("inet") if at.status == psutil.CONN_LISTEN]
    assert len(listening) >= len(NAMES)
    assert {address.ip for address in listening} == {HOST}


def test_the_env_file_says_what_a_client_needs(servers: LocalServers) -> None:
    assert stat.S_IMODE(servers.env_file.stat().st_mode) == 0o600
    shell = f"export AWS_SESSION_TOKEN=of-another-account; . {shlex.quote(str(servers.env_file))}; env -0"
    done = subprocess.run(["/bin/sh", "-c", shell], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    sourced = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    said = servers.environment()
    assert sorted(said) == [
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_URI",
        "PREFECT_API_URL",
        "REGIOLECT_STORE",
    ]
    assert said.items() <= sourced.items()
    assert "AWS_SESSION_TOKEN" not in sourced
    assert said["REGIOLECT_STORE"] == "s3://regiolect-{region}/store"


def test_every_region_has_a_bucket(servers: LocalServers) -> None:
    there = {bucket["Name"] for bucket in s3(servers.environment()).list_buckets()["Buckets"]}
    regions = PolicyBook(None).regions()
    assert there == {"regiolect-shared", "regiolect-mlflow", *(f"regiolect-{region}" for region in regions)}


def test_prefects_pages_and_mlflows_are_served(servers: LocalServers) -> None:
    said = servers.environment()
    assert b"<html" in ask(said["PREFECT_API_URL"].removesuffix("/api")).lower()
    assert b"<html" in ask(said["MLFLOW_TRACKING_URI"]).lower()
    pages = json.loads(ask(said["PREFECT_API_URL"].removesuffix("/api") + "/ui-settings"))
    assert pages["api_url"] == said["PREFECT_API_URL"]


# --------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_on_a_command_line_or_in_a_log(servers: LocalServers) -> None:
    secrets = secrets_of(servers)
    lines = []
    for member in family(servers):
        with suppress(psutil.NoSuchProcess):
            lines.append(" ".join(member.cmdline()))
    assert any("weed" in line for line in lines)
    logs = list((servers.root / "logs").iterdir())
    assert {log.stem for log in logs} >= set(NAMES)
    for secret in secrets:
        assert not [line for line in lines if secret in line]
        assert not [log for log in logs if secret in log.read_text(errors="replace")]
        assert secret not in (servers.root / "state.json").read_text()


@pytest.mark.parametrize("name", PASSWORD_FILES)
def test_what_holds_secrets_is_for_its_owner_alone(servers: LocalServers, name: str) -> None:
    assert stat.S_IMODE((servers.root / name).stat().st_mode) == 0o600


def test_others_may_not_list_the_folder(servers: LocalServers) -> None:
    assert stat.S_IMODE(servers.root.stat().st_mode) & 0o066 == 0


@pytest.mark.parametrize("password", ["", "wrong"])
def test_postgresql_lets_nobody_in_without_its_password(
    servers: LocalServers, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSFILE", raising=False)
    port = int(str(servers.status()[0].address).rpartition(":")[2])
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host=HOST, port=port, user="regiolect", password=password, dbname="prefect").close()


def test_s3_lets_nobody_in_without_its_secret_on_any_of_its_ports(servers: LocalServers) -> None:
    said = servers.environment()
    s3(said).put_object(Bucket="regiolect-eu", Key="private", Body=b"engine")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3({**said, "AWS_SECRET_ACCESS_KEY": "wrong"}).get_object(Bucket="regiolect-eu", Key="private")
    ports = json.loads((servers.root / "state.json").read_text())["servers"]["s3"]["ports"]
    for address in (f"{said['AWS_ENDPOINT_URL']}/regiolect-eu", f"http://{HOST}:{ports['filer']}/buckets/regiolect-eu"):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            ask(f"{address}/private")
        assert refused.value.response.status_code in (401, 403)


# ------------------------------------------------------------------------------------------- killed, down, up again


def test_a_killed_server_is_seen_and_mended_and_the_others_stay(servers: LocalServers) -> None:
    before = servers.status()
    said = servers.environment()
    servers.kill("s3")
    seen = {server.name: server for server in servers.status()}
    assert (seen["s3"].pid, seen["s3"].problem) == (None, "not running")
    assert seen["postgres"].problem is None
    mended = servers.up()
    assert [server.name for server in mended if server.seconds is not None] == ["s3"]
    changed = {name for name in NAMES if pids(before)[name] != pids(mended)[name]}
    assert changed == {"s3"}
    assert [server.problem for server in servers.status()] == [None] * 4
    assert servers.environment() == said


def test_postgresql_comes_back_after_a_kill_and_its_clients_with_it(servers: LocalServers) -> None:
    members = [psutil.Process(pids(servers.status())["postgres"] or 0)]
    members += members[0].children(recursive=True)
    servers.kill("postgres")
    assert not [member for member in members if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    servers.start("postgres")
    # Prefect's readiness asks its database; `up` waits for it, and starts it anew only if it does not come back.
    assert [server.problem for server in servers.up()] == [None] * 4


def test_data_and_addresses_survive_down_and_up_and_a_taken_port_is_left_alone(servers: LocalServers) -> None:
    said = servers.environment()
    prefect, mlflow = said["PREFECT_API_URL"], f"{said['MLFLOW_TRACKING_URI']}/api/2.0"
    ask(f"{prefect}/variables/", {"name": "kept", "value": "yes"})
    ask(f"{mlflow}/mlflow/registered-models/create", {"name": "kept"})
    ask(f"{mlflow}/mlflow-artifacts/artifacts/kept.txt", b"by way of the server", "PUT")
    s3(said).put_object(Bucket="regiolect-shared", Key="kept", Body=b"engine")
    before = servers.status()

    assert servers.down() == NAMES
    assert [server.problem for server in servers.status()] == ["not running"] * 4
    for server in before:
        assert server.pid is not None
        assert not psutil.pid_exists(server.pid)
        assert is_free(int(str(server.address).removesuffix("/api").rpartition(":")[2]))
    assert servers.down() == ()

    ports = json.loads((servers.root / "state.json").read_text())["servers"]["s3"]["ports"]
    with closing(socket.create_server((HOST, ports["master"]))):
        after = servers.up()
    assert {server.name: server.address for server in after} == {server.name: server.address for server in before}
    moved = json.loads((servers.root / "state.json").read_text())["servers"]["s3"]["ports"]
    assert {use for use in ports if ports[use] != moved[use]} == {"master"}
    assert servers.environment() == said

    assert json.loads(ask(f"{prefect}/variables/name/kept"))["value"] == "yes"
    assert json.loads(ask(f"{mlflow}/mlflow/registered-models/get?name=kept"))["registered_model"]["name"] == "kept"
    assert ask(f"{mlflow}/mlflow-artifacts/artifacts/kept.txt") == b"by way of the server"
    assert s3(said).get_object(Bucket="regiolect-shared", Key="kept")["Body"].read() == b"engine"
    kept = s3(said).list_objects_v2(Bucket="regiolect-mlflow")["Contents"]
    assert [entry["Key"] for entry in kept] == ["artifacts/kept.txt"]


def test_a_server_is_stopped_and_started_by_itself(servers: LocalServers) -> None:
    before = pids(servers.status())
    servers.stop("s3")
    assert pids(servers.status()) == {**before, "s3": None}
    started = servers.start("s3")
    assert started.seconds is not None
    assert started.pid not in (None, before["s3"])
    assert pids(servers.status()) == {**before, "s3": started.pid}
