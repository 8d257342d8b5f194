"""All four servers, real ones: up, again, killed, mended, taken down, and up with their data."""

from __future__ import annotations

import json
import shlex
import socket
import stat
import subprocess
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import psycopg2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from regiolect.doctor import places
from regiolect.errors import RegistryError
from regiolect.policy import PolicyBook
from regiolect.servers import certificates, object_store
from regiolect.servers.catalog import NAMES
from regiolect.servers.local import LocalServers, Status
from regiolect.servers.ports import HOST, is_free
from regiolect.settings import Settings
from tests.patience import PATIENCE
from tests.unit.servers.conftest import OLD_CREDENTIALS
from tests.unit.servers.uninvited import GRPC, HARMLESS, SQL, answers, listening, speaks_grpc

pytestmark = pytest.mark.slow

PASSWORD_FILES = ("credentials.json", "pgpass", "s3/s3.json", "env.sh", "state.json")


def pids(found: Iterable[Status]) -> dict[str, int | None]:
    return {server.name: server.pid for server in found}


def ask(
    url: str,
    body: dict[str, Any] | bytes | None = None,
    method: str | None = None,
    login: tuple[str, str] | None = None,
) -> bytes:
    method = method or ("GET" if body is None else "POST")
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    with httpx.Client(trust_env=False, timeout=PATIENCE, follow_redirects=True, auth=login) as client:
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


def prefect_login(said: dict[str, str]) -> tuple[str, str]:
    user, _, password = said["PREFECT_API_AUTH_STRING"].partition(":")
    return user, password


def mlflow_login(said: dict[str, str]) -> tuple[str, str]:
    return said["MLFLOW_TRACKING_USERNAME"], said["MLFLOW_TRACKING_PASSWORD"]


def secrets_of(servers: LocalServers) -> list[str]:
    kept = json.loads((servers.root / "credentials.json").read_text())
    assert len(kept) == 7
    assert OLD_CREDENTIALS.items() <= kept.items(), "a home of an earlier version keeps what opens its data"
    return list(kept.values())


def ports_of(servers: LocalServers) -> dict[int, str]:
    """Every port with its server and use, `s3.filer`."""
    known = json.loads((servers.root / "state.json").read_text())["servers"]
    return {port: f"{name}.{use}" for name, server in known.items() for use, port in server["ports"].items()}


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
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_USERNAME",
        "PREFECT_API_AUTH_STRING",
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
    assert b"<html" in ask(said["MLFLOW_TRACKING_URI"], login=mlflow_login(said)).lower()
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


def test_s3_lets_nobody_in_without_its_secret(servers: LocalServers) -> None:
    said = servers.environment()
    s3(said).put_object(Bucket="regiolect-eu", Key="private", Body=b"engine")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3({**said, "AWS_SECRET_ACCESS_KEY": "wrong"}).get_object(Bucket="regiolect-eu", Key="private")


def test_whoever_has_no_credential_is_refused_on_everything_that_listens(servers: LocalServers, tmp_path: Path) -> None:
    said = servers.environment()
    s3(said).put_object(Bucket="regiolect-eu", Key="private", Body=b"engine")
    uses = ports_of(servers)
    own = servers.root / "s3" / "tls" / str(datetime.now(UTC).year)
    certificates.keep_certificates(tmp_path / "foreign")
    asked = set()
    for address in listening(family(servers)):
        # SeaweedFS opens a file in /tmp beside each of its ports, named by it.
        port = int(Path(address).stem.rpartition("-")[2]) if isinstance(address, str) else address[1]
        use = uses[port]
        if isinstance(address, str):
            assert stat.S_IMODE(Path(address).stat().st_mode) & 0o077 == 0, address
        if use in GRPC:
            assert not speaks_grpc(address), use
            assert not speaks_grpc(address, own), f"{use} asks for no certificate"
            assert not speaks_grpc(address, own, tmp_path / "foreign"), f"{use} takes anybody's certificate"
            assert speaks_grpc(address, own, own), f"{use}: the hello is one"
        elif use not in SQL:
            assert set(answers(address)) <= HARMLESS[use], use
        asked.add(use)
    assert asked == {*HARMLESS, *GRPC, *SQL}
    kept = s3(said).list_objects_v2(Bucket="regiolect-eu")["Contents"]
    assert [entry["Key"] for entry in kept] == ["private"]


def test_the_doctor_logs_in_and_reads_mlflows_version(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    said = servers.environment()
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    (finding,) = places.registry(Settings(home=servers.root.parent))
    assert (finding.verdict, f"version {metadata.version('mlflow')}" in finding.found) == ("ok", True), finding
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-wrong-wrong")
    with pytest.raises(RegistryError):
        list(places.registry(Settings(home=servers.root.parent)))


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_prefects_streams_are_for_those_who_log_in(servers: LocalServers, path: str) -> None:
    said = servers.environment()
    url = f"{said['PREFECT_API_URL'].replace('http://', 'ws://')}/{path}"
    with pytest.raises((ConnectionClosed, InvalidHandshake)), connect(url, proxy=None) as stream:
        stream.recv(10)
    for token, wanted in (("regiolect:wrong", None), (said["PREFECT_API_AUTH_STRING"], "auth_success")):
        with connect(url, proxy=None, subprotocols=[Subprotocol("prefect")]) as stream:
            stream.send(json.dumps({"type": "auth", "token": token}))
            if wanted is None:
                with pytest.raises(ConnectionClosed):
                    stream.recv(10)
            else:
                assert json.loads(stream.recv(10))["type"] == wanted


@pytest.mark.parametrize("host", ["elsewhere.example", "elsewhere.example:4200", "127.0.0.1.elsewhere.example"])
def test_a_name_that_was_pointed_here_leads_nowhere(servers: LocalServers, host: str) -> None:
    said = servers.environment()
    asked = {
        f"{said['PREFECT_API_URL']}/flows/filter": prefect_login(said),
        f"{said['PREFECT_API_URL']}/health": prefect_login(said),
        said["PREFECT_API_URL"].removesuffix("/api"): prefect_login(said),
        f"{said['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/search": mlflow_login(said),
        said["MLFLOW_TRACKING_URI"]: mlflow_login(said),
    }
    for url, login in asked.items():
        with httpx.Client(trust_env=False, timeout=PATIENCE, auth=login) as client:
            assert client.get(url, headers={"Host": host}).status_code in (400, 403), url


# MLflow takes pages of this machine for its own, whatever their port.
@pytest.mark.parametrize(
    ("origin", "names"),
    [
        ("http://elsewhere.example", ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")),
        ("null", ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")),
        ("http://127.0.0.1:9", ("PREFECT_API_URL",)),
    ],
)
def test_a_foreign_page_is_not_let_read_or_write(servers: LocalServers, origin: str, names: tuple[str, ...]) -> None:
    """What a browser asks before it sends a page's request elsewhere, and what it hands the page of an answer."""
    said = servers.environment()
    for url in (f"{said[name]}/flows/filter" for name in names):
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            for answer in (client.options(url, headers=asks), client.post(url, headers={"Origin": origin}, json={})):
                assert answer.headers.get("access-control-allow-origin") not in ("*", origin), answer.request


# ------------------------------------------------------------------------------------------- a year later


def test_in_the_next_year_the_object_store_is_started_with_new_certificates(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = servers.root / "s3" / "tls"
    before = {file.name: file.read_bytes() for file in tls.glob("*/*")}
    assert {stat.S_IMODE(file.stat().st_mode) for file in tls.glob("*/*.key")} == {0o600}
    monkeypatch.setattr(object_store, "_year", lambda: datetime.now(UTC).year + 1)
    assert [server.name for server in servers.up() if server.seconds is not None] == ["s3"]
    assert [folder.name for folder in tls.iterdir()] == [str(datetime.now(UTC).year + 1)]
    after = {file.name: file.read_bytes() for file in tls.glob("*/*")}
    assert after.keys() == before.keys()
    assert not [name for name in before if before[name] == after[name]]
    assert s3(servers.environment()).list_buckets()["Buckets"]
    monkeypatch.undo()
    servers.up()


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
    ask(f"{prefect}/variables/", {"name": "kept", "value": "yes"}, login=prefect_login(said))
    ask(f"{mlflow}/mlflow/registered-models/create", {"name": "kept"}, login=mlflow_login(said))
    ask(f"{mlflow}/mlflow-artifacts/artifacts/kept.txt", b"by way of the server", "PUT", mlflow_login(said))
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

    assert json.loads(ask(f"{prefect}/variables/name/kept", login=prefect_login(said)))["value"] == "yes"
    found = json.loads(ask(f"{mlflow}/mlflow/registered-models/get?name=kept", login=mlflow_login(said)))
    assert found["registered_model"]["name"] == "kept"
    artifact = f"{mlflow}/mlflow-artifacts/artifacts/kept.txt"
    assert ask(artifact, login=mlflow_login(said)) == b"by way of the server"
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
