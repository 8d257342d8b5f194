"""What the doctor says of a real Prefect server: from an empty one to one on which everything is as it should be."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

import prefect
import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.deploy.checkup import notification, worker_of
from flows.deploy.pools import WATCH, apply
from regiolect.doctor.examination import examine
from regiolect.doctor.finding import Finding
from regiolect.policy import PolicyBook
from regiolect.servers.local import LocalServers
from regiolect.settings import load_settings

pytestmark = pytest.mark.slow

POLICY = """
region: fjord
title: The fjord
reason: A policy for the purpose of a test, no more.
precision: FP32
accuracy: {{metric: accuracy, limit: 0.5}}
targets: [{{name: {target}, backend: openvino}}]
"""
LOOKED_AT = ("prefect", "pools", "deployments", "watch", "worker", "notification", "clock, the Prefect", "local")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    made = LocalServers(tmp_path_factory.mktemp("home"), usual_ports=False)
    made.up(["prefect"])
    yield made
    made.down()


@pytest.fixture(scope="module")
def policies(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One region on one target, in an environment that leads to the server and to nothing else."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "fjord.yaml").write_text(POLICY.format(target="cpu-fjord"))
    foreign = ("AWS_", "MLFLOW_", "PREFECT_", "REGIOLECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    mine = {
        "REGIOLECT_HOME": str(servers.root.parent),
        "REGIOLECT_POLICIES": str(folder),
        **servers.environment(),
    }
    with mock.patch.dict(os.environ, kept | mine, clear=True), at(mine["PREFECT_API_URL"]):
        yield folder


@contextmanager
def at(address: str) -> Iterator[None]:
    """The environment and Prefect's own settings, which it reads once, lead to `address`."""
    environment = mock.patch.dict(os.environ, {"PREFECT_API_URL": address})
    login = os.environ.get("PREFECT_API_AUTH_STRING")
    with environment, temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: login}):
        yield


@pytest.fixture(scope="module")
def client(policies: Path) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        yield opened


def looked_at() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine() if finding.name.startswith(LOOKED_AT)}


def wrong() -> dict[str, Finding]:
    return {name: finding for name, finding in looked_at().items() if finding.verdict == "wrong"}


@pytest.fixture(scope="module")
def empty(policies: Path) -> Mapping[str, Finding]:
    """What is said of a server on which nothing was made yet."""
    return looked_at()


@pytest.fixture(scope="module")
def applied(empty: Mapping[str, Finding], policies: Path) -> None:
    apply(PolicyBook(policies), load_settings())


@pytest.fixture(scope="module")
def with_workers(applied: None, client: SyncPrefectClient) -> None:
    for pool in ("control", "cpu-fjord"):
        client.send_worker_heartbeat(pool, f"worker-of-{pool}", heartbeat_interval_seconds=30)


def test_on_an_empty_server_everything_is_missing_and_one_command_makes_it(empty: Mapping[str, Finding]) -> None:
    assert empty["prefect"].verdict == "ok"
    assert f"{prefect.__version__} at http" in empty["prefect"].found
    assert empty["pools"].found == "missing: control, cpu-fjord"
    assert "nightly/fjord" in empty["deployments"].found
    assert "none" in empty["watch"].found
    for name in ("pools", "deployments", "watch"):
        assert empty[name].verdict == "wrong"
        assert empty[name].remedy.startswith("regiolect pools apply")


def test_looking_makes_nothing(empty: Mapping[str, Finding], client: SyncPrefectClient) -> None:
    # `empty` has looked; nobody has applied unless another test did.
    assert looked_at()["pools"].found == empty["pools"].found
    assert client.read_deployments() == []
    assert client.read_automations_by_name(WATCH) == []


def test_a_pool_without_a_worker_is_told_with_the_command_that_starts_one(applied: None) -> None:
    found = wrong()
    assert found.keys() == {"worker of control", "worker of cpu-fjord"}
    assert found["worker of cpu-fjord"].found == "none ever started"
    assert found["worker of cpu-fjord"].remedy.endswith("prefect worker start --pool cpu-fjord")


def test_where_builds_stay_here_pools_without_workers_are_only_noted(
    applied: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIOLECT_BUILD_ON", "here")
    assert looked_at()["worker of cpu-fjord"].verdict == "note"


def test_when_all_is_well_nothing_is_wrong(with_workers: None) -> None:
    found = looked_at()
    assert {finding.verdict for finding in found.values()} == {"ok"}, found
    assert found["pools"].found == "control (process), cpu-fjord (process)"
    assert "worker-of-control, heard of" in found["worker of control"].found
    assert {"clock, the Prefect server", "local servers"} <= found.keys()


def test_a_worker_that_is_no_longer_heard_of_is_none(with_workers: None, client: SyncPrefectClient) -> None:
    silent = [
        worker.model_copy(
            update={"status": "OFFLINE", "last_heartbeat_time": datetime.now(UTC) - timedelta(hours=5), "name": "old"}
        )
        for worker in client.read_workers_for_work_pool("cpu-fjord")
    ]
    found = worker_of(client.read_work_pool("cpu-fjord"), silent, load_settings())
    assert (found.verdict, found.found) == ("wrong", "the last, old, was heard of 5 h ago")


def test_what_differs_from_the_policies_is_named(with_workers: None, policies: Path, client: SyncPrefectClient) -> None:
    nightly = client.read_deployment_by_name("nightly/fjord")
    client.request("PATCH", "/deployments/{id}", path_params={"id": nightly.id}, json={"tags": ["mine"]})
    assert looked_at()["deployments"].found == "different: nightly/fjord (tags)"
    assert client.read_deployment_by_name("nightly/fjord").tags == ["mine"], "it was only looked at"
    apply(PolicyBook(policies), load_settings())
    assert looked_at()["deployments"].verdict == "ok"


def test_deployments_of_another_version_are_named(
    with_workers: None, policies: Path, client: SyncPrefectClient
) -> None:
    release = client.read_deployment_by_name("release/release")
    client.request("PATCH", "/deployments/{id}", path_params={"id": release.id}, json={"version": "0.0.1"})
    found = looked_at()["deployments"]
    assert (found.verdict, found.found) == ("wrong", "different: release/release (version)")
    apply(PolicyBook(policies), load_settings())


def test_a_target_that_the_policies_lost_and_one_that_they_gained(with_workers: None, policies: Path) -> None:
    (policies / "fjord.yaml").write_text(POLICY.format(target="cpu-new"))
    try:
        found = looked_at()
    finally:
        (policies / "fjord.yaml").write_text(POLICY.format(target="cpu-fjord"))
    assert found["pools"].found == "missing: cpu-new"
    assert "missing: build-region/fjord-cpu-new" in found["deployments"].found
    assert "gone from the policies: build-region/fjord-cpu-fjord" in found["deployments"].found


def test_forms_that_offer_other_models_are_a_note(with_workers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_MODELS", "tests.flows.tiny_models:TINY")
    found = looked_at()["deployments"]
    assert found.verdict == "note"
    assert "REGIOLECT_MODELS" in found.remedy


def test_pools_are_not_compared_while_a_policy_is_broken(with_workers: None, policies: Path) -> None:
    (policies / "dune.yaml").write_text("region: dune\n")
    try:
        found = looked_at()
    finally:
        (policies / "dune.yaml").unlink()
    assert found["deployments"].verdict == "note"
    assert "pools" not in found


def test_what_an_operator_switched_off_is_a_note(with_workers: None, client: SyncPrefectClient) -> None:
    watch = client.read_automations_by_name(WATCH)[0]
    client.pause_automation(watch.id)
    client.update_work_pool("cpu-fjord", WorkPoolUpdate(is_paused=True))
    found = looked_at()
    client.resume_automation(watch.id)
    client.update_work_pool("cpu-fjord", WorkPoolUpdate(is_paused=False))
    assert (found["watch"].verdict, found["pools"].verdict) == ("note", "note")
    assert "prefect work-pool resume cpu-fjord" in found["pools"].remedy


# -------------------------------------------------------------------------------------------------- notification


@pytest.fixture(scope="module")
def blocks(policies: Path) -> None:
    CustomWebhookNotificationBlock(name="ops", url="http://127.0.0.1:9/the-hidden-hook").save("ops")
    Secret(value="the-hidden-word").save("word")


def test_the_block_that_sends_the_digest_is_there(blocks: None, applied: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_NOTIFY", "custom-webhook/ops")
    found = looked_at()["notification"]
    assert (found.verdict, found.found) == ("ok", "custom-webhook/ops")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("custom-webhook/nobody", "no such block"),
        ("no-such-type/ops", "no such block"),
        ("secret/word", "cannot notify"),
        ("ops", "a name without its type"),
    ],
)
def test_a_block_that_cannot_send_the_digest(blocks: None, block: str, said: str) -> None:
    (found,) = notification(block)
    assert found.verdict == "wrong"
    assert said in found.found
    assert "REGIOLECT_NOTIFY" in found.expected
    assert "hidden" not in found.model_dump_json()


# ------------------------------------------------------------------------------------------------ wrong addresses


def answering(status: int, body: bytes) -> Callable[[], HTTPServer]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of it."""

    return lambda: HTTPServer(("127.0.0.1", 0), Answer)


@contextmanager
def serving(make: Callable[[], HTTPServer]) -> Iterator[str]:
    server = make()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_where_nothing_answers_is_named_and_nothing_else_is_asked(policies: Path) -> None:
    with at("http://127.0.0.1:9/api"):
        found = looked_at()
    assert "PREFECT_API_URL=http://127.0.0.1:9/api" in found["prefect"].expected
    assert found["prefect"].verdict == "wrong"
    assert not {"pools", "deployments", "worker of control"} & found.keys()


def test_that_nothing_separates_builds_from_the_key_is_said(policies: Path) -> None:
    (finding,) = [finding for finding in examine() if finding.name == "one account"]
    assert finding.verdict == "note"
    assert "nothing keeps its builds" in finding.found
    assert "compose" in finding.remedy


def test_whoever_does_not_log_in_is_told_how(policies: Path) -> None:
    address = os.environ["PREFECT_API_URL"]
    with mock.patch.dict(os.environ, {"PREFECT_API_AUTH_STRING": "regiolect:wrong"}), at(address):
        found = looked_at()
    assert found["prefect"].verdict == "wrong"
    assert "PREFECT_API_AUTH_STRING" in found["prefect"].remedy
    assert not {"pools", "deployments", "worker of control"} & found.keys()


def test_the_address_of_the_pages_is_not_the_one_of_the_api(servers: LocalServers, policies: Path) -> None:
    address = os.environ["PREFECT_API_URL"].removesuffix("/api")
    with at(address):
        found = looked_at()["prefect"]
    assert found.verdict == "wrong"
    assert "ends with /api" in found.remedy


@pytest.mark.parametrize(
    ("status", "body", "verdict", "said"),
    [
        (404, b"", "wrong", "not Prefect's"),
        (200, b"<html>MLflow</html>", "wrong", "not Prefect's"),
        (401, b"{}", "wrong", "401 for GET"),
        (200, b'"3.7.4"', "wrong", "3.7.4 at http"),
        (200, b'"4.0.0"', "wrong", "4.0.0 at http"),
        (200, b'"3.99.0"', "note", "3.99.0 at http"),
        (200, f'"{prefect.__version__}"'.encode(), "ok", "at http"),
    ],
)
def test_what_answers_in_a_servers_place(policies: Path, status: int, body: bytes, verdict: str, said: str) -> None:
    with serving(answering(status, body)) as address, at(address):
        found = next(finding for finding in examine() if finding.name == "prefect")
    assert (found.verdict, said in found.found) == (verdict, True), found
    if status == 401:
        assert "PREFECT_API_AUTH_STRING" in found.remedy
