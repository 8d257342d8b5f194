"""Stores, registry and clocks as the doctor finds them, on a real S3 server."""

from __future__ import annotations

import os
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from regiolect.doctor import places
from regiolect.doctor.finding import Finding
from regiolect.doctor.places import clock
from regiolect.storage import S3Store
from tests.flows.tiny_models import CPU, Workshop
from tests.seaweed import Identity, Seaweed

pytestmark = pytest.mark.slow

Examined = Callable[..., dict[str, Finding]]
NORTH = Identity(
    "north",
    (
        "Read:regiolect-north",
        "Write:regiolect-north",
        "List:regiolect-north",
        "Read:regiolect-shared",
        "List:regiolect-shared",
    ),
)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("seaweed"), ["regiolect-shared", "regiolect-north"], (NORTH,)).start()
    yield server
    server.stop()


@pytest.fixture
def prefix(workshop: Workshop, seaweed: Seaweed) -> str:
    """A prefix in the buckets that no other test uses; the environment leads there."""
    made = uuid4().hex
    os.environ.update(seaweed.environment(), REGIOLECT_STORE=f"s3://regiolect-{{region}}/{made}")
    return made


def stores(found: dict[str, Finding]) -> dict[str, str]:
    """Of each store: `ok`, or what is wrong in a word."""
    return {
        name: "ok" if finding.verdict == "ok" else finding.found.partition(":")[0]
        for name, finding in found.items()
        if name.startswith("store")
    }


@contextmanager
def serving(answer: Callable[[str], tuple[int, str]], ahead: float = 0.0) -> Iterator[str]:
    """A server that gives what `answer` says to a method, with a clock that is `ahead` by so many seconds."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answer(self.command)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_PUT = do_GET  # noqa: N815 - the name is the standard library's

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)

        def log_message(self, *_: object) -> None:
            """Say nothing of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def nothing_here(method: str) -> tuple[int, str]:
    return 404, ""


def test_a_store_per_region_is_written_and_read_back(prefix: str, examined: Examined) -> None:
    for _ in range(2):
        found = examined()
        assert stores(found) == {"store of shared": "ok", "store of north": "ok"}
    assert found["clock, the S3 server"].verdict == "ok"
    assert found["packages: s3"].verdict == "ok"


def test_what_one_looks_at_leaves_a_marker_and_one_record(prefix: str, examined: Examined, seaweed: Seaweed) -> None:
    for _ in range(2):
        examined()
    listed = seaweed.client().list_objects_v2(Bucket="regiolect-north", Prefix=prefix)["Contents"]
    kept = [entry["Key"].removeprefix(f"{prefix}/").rpartition("/")[0] for entry in listed]
    assert sorted(kept) == ["", "records/doctor"]


def test_other_code_on_another_machine_that_looked_is_told_once(
    prefix: str, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(platform, "node", lambda: "worker-7")
        there.setattr(places, "own_code", lambda: f"sha256:{'7' * 64}")
        examined()
    found = examined()
    assert found["code on worker-7"].verdict == "note"
    assert "777777777777" in found["code on worker-7"].found
    assert "OtherVersion" in found["code on worker-7"].remedy


def test_a_wrong_secret_is_told_once_and_not_shown(
    prefix: str, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    found = examined()
    assert stores(found) == {"store of shared": "StoreAccessRefused", "stores of regions": "not looked at"}
    assert "AWS_SECRET_ACCESS_KEY" in found["store of shared"].remedy
    assert "a-wrong-secret" not in "".join(finding.model_dump_json() for finding in found.values())


def test_missing_credentials_are_told(prefix: str, examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    found = examined()["store of shared"]
    assert "Unable to locate credentials" in found.found
    assert "AWS_PROFILE" in found.remedy


def test_a_missing_bucket_is_told_of_its_region_alone(prefix: str, workshop: Workshop, examined: Examined) -> None:
    workshop.write_policy("south", CPU)
    found = examined()
    assert stores(found) == {"store of shared": "ok", "store of north": "ok", "store of south": "NoSuchBucket"}
    assert "aws s3 mb s3://regiolect-south" in found["store of south"].remedy


def test_the_bucket_of_another_region_is_refused(prefix: str, examined: Examined, tmp_path: Path) -> None:
    S3Store(f"s3://regiolect-north/{prefix}", tmp_path / "cache").claim("south")
    found = examined()["store of north"]
    assert (found.verdict, found.found) == ("wrong", "ForeignStore: one of region 'south'")


def test_an_endpoint_where_nothing_answers_is_told_once(
    prefix: str, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers there
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        found = examined()
    assert stores(found) == {"store of shared": "StoreUnreachable", "stores of regions": "not looked at"}
    assert "clock, the S3 server" not in found, "who does not answer has no clock"


def test_a_worker_that_may_only_read_what_is_shared_looks_at_its_own_region(
    prefix: str, examined: Examined, seaweed: Seaweed
) -> None:
    examined()
    os.environ.update(seaweed.environment(seaweed.identities[-1]))
    assert stores(examined())["store of shared"] == "StoreAccessRefused"
    assert stores(examined(["north"])) == {"store of shared": "ok", "store of north": "ok"}


def test_a_full_store_is_told(prefix: str, examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    # As other servers than SeaweedFS say it, which takes long to fill.
    full = "<Error><Code>XMinioStorageFull</Code><Message>no</Message></Error>"
    absent = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
    with serving(lambda method: (507, full) if method == "PUT" else (404, absent)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        found = examined()["store of shared"]
    assert (found.verdict, found.found.partition(":")[0]) == ("wrong", "StoreFull")
    assert "free or add space" in found.remedy


def test_a_folder_per_region_with_one_of_another_region(
    workshop: Workshop, examined: Examined, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REGIOLECT_STORE", str(tmp_path / "stores" / "{region}"))
    assert stores(examined()) == {"store of shared": "ok", "store of north": "ok"}
    (tmp_path / "stores" / "north").rename(tmp_path / "stores" / "south")
    workshop.write_policy("south", CPU)
    monkeypatch.setenv("REGIOLECT_STORE", str(tmp_path / "stores" / "." / "{region}"))
    monkeypatch.setenv("AWS_PROFILE", "another environment, so that stores are opened anew")
    assert stores(examined())["store of south"] == "ForeignStore"


# -------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    ("off", "said"),
    [
        (3600, r"this machine's is (3600|3601|3599) s behind.*S3 refuses requests beyond 900 s"),
        (-300, r"this machine's is (300|301|299) s ahead: [^;]*$"),
    ],
)
def test_a_clock_that_is_off_is_told_with_how_far(off: float, said: str) -> None:
    with serving(nothing_here, ahead=off) as url:
        (found,) = clock("the Prefect server", url)
    assert found.verdict == "wrong"
    assert re.search(said, found.found)
    assert "timedatectl" in found.remedy


@pytest.mark.parametrize("off", [-30, 0, 30])
def test_a_clock_that_is_off_by_little_is_well(off: float) -> None:
    with serving(nothing_here, ahead=off) as url:
        (found,) = clock("the Prefect server", url)
    assert found.verdict == "ok"


def test_the_clock_of_every_server_is_looked_at(
    prefix: str, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(nothing_here, ahead=7200) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        found = examined()
    assert found["registry"].verdict == "wrong", "it is no MLflow"
    clocks = {name: finding.verdict for name, finding in found.items() if name.startswith("clock")}
    assert clocks == {"clock, the MLflow server": "wrong", "clock, the S3 server": "ok"}
