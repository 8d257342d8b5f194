"""How each fault of an S3 store is called, and that no secret shows in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import botocore.auth
import pytest

from regiolect.contracts import Target
from regiolect.errors import (
    ClockOff,
    ForeignStore,
    InvalidSetting,
    NoSuchBucket,
    StorageError,
    StoreAccessRefused,
    StoreFull,
    StoreUnreachable,
)
from regiolect.storage import S3Store
from tests.seaweed import Seaweed

pytestmark = pytest.mark.slow


@pytest.fixture
def store(aws: Seaweed, place: str, tmp_path: Path) -> S3Store:
    return opened(place, tmp_path)


def opened(place: str, tmp_path: Path) -> S3Store:
    made = S3Store(place, tmp_path / "cache")
    made.claim(None)
    return made


def become(name: str, server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    (who,) = (identity for identity in server.identities if identity.name == name)
    for variable, value in server.environment(who).items():
        monkeypatch.setenv(variable, value)


def said(error: StorageError) -> str:
    """An error with all that a log would show of it."""
    return f"{error} {error.__cause__}"


def test_a_wrong_secret_is_refused_and_told_to_nobody(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong secret")
    with pytest.raises(StoreAccessRefused, match="SignatureDoesNotMatch") as caught:
        opened(place, tmp_path)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.remedy
    for secret in ("a wrong secret", aws.admin.access_key, "Signature="):
        assert secret not in said(caught.value)


def test_a_refusal_of_a_request_without_an_answers_body_is_explained(
    store: S3Store, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.put_bytes(b"engine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong secret")
    with pytest.raises(StoreAccessRefused, match="SignatureDoesNotMatch"):
        S3Store(place, tmp_path / "cache").has(blob)


def test_missing_credentials_are_named(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreAccessRefused, match="AWS_PROFILE"):
        opened(place, tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreAccessRefused, match="Unable to locate credentials"):
        opened(place, tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreAccessRefused, match="nobody"):
        opened(place, tmp_path)


def test_credentials_that_cannot_be_sent_do_not_show(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"{aws.admin.access_key}\nx")
    with pytest.raises(StorageError) as caught:
        opened(place, tmp_path)
    assert aws.admin.access_key not in said(caught.value)
    assert "Signature=" not in said(caught.value)


def test_who_may_only_read_may_read(
    store: S3Store, aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.put_bytes(b"engine")
    become("reader", aws, monkeypatch)
    mine = S3Store(place, tmp_path / "mine")
    mine.claim(None)
    assert mine.path_of(blob).read_bytes() == b"engine"
    with pytest.raises(StoreAccessRefused, match="AccessDenied"):
        mine.put_bytes(b"another")
    with pytest.raises(StoreAccessRefused, match="AccessDenied"):
        mine.put_record("targets", "one", Target(name="one", backend="openvino"))


def test_an_identity_of_one_regions_bucket_is_refused_another(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("eu", aws, monkeypatch)
    prefix = place.rpartition("/")[2]
    opened(f"s3://regiolect-eu/{prefix}", tmp_path).put_bytes(b"engine")
    with pytest.raises(StoreAccessRefused, match="AccessDenied") as caught:
        opened(place, tmp_path)
    assert "bucket 'regiolect'" in caught.value.remedy


def test_a_bucket_that_does_not_exist_is_named(aws: Seaweed, tmp_path: Path) -> None:
    with pytest.raises(NoSuchBucket, match="nowhere") as caught:
        opened("s3://nowhere/prefix", tmp_path)
    assert "aws s3 mb s3://nowhere" in caught.value.remedy
    assert aws.client().list_buckets()["Buckets"][-1]["Name"] != "nowhere"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://nothing.invalid"])
def test_a_wrong_address_answers_soon(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    begun = time.monotonic()
    with pytest.raises(StoreUnreachable, match=address) as caught:
        opened(place, tmp_path)
    assert time.monotonic() - begun < 10
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


@pytest.mark.parametrize("address", ["127.0.0.1", "http://me:s3cret@127.0.0.1:9"])
def test_an_address_that_is_none_is_named(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(InvalidSetting, match="AWS_ENDPOINT_URL") as caught:
        opened(place, tmp_path)
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


def test_a_clock_that_is_off_is_named(
    store: S3Store, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.put_bytes(b"engine")
    now = botocore.auth.get_current_datetime

    def late(*arguments: Any, **options: Any) -> datetime:
        return now(*arguments, **options) - timedelta(hours=1)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", late)
    for failing in (lambda: opened(place, tmp_path), lambda: store.has(blob), lambda: store.put_bytes(b"new")):
        with pytest.raises(ClockOff, match=r"RequestTimeTooSkewed.*the server's says"):
            failing()


@contextmanager
def answering(status: int, body: str, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that gives every request the same answer: for what SeaweedFS never says."""

    class Answer(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        def parse_request(self) -> bool:
            if super().parse_request():
                self._answer()
            self.close_connection = True
            return False

        def log_request(self, *_: Any) -> None:
            """Say nothing of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "name", "region", "error", "expected"),
    [
        (301, "PermanentRedirect", "eu-west-1", ForeignStore, "AWS_DEFAULT_REGION=eu-west-1"),
        (400, "AuthorizationHeaderMalformed", "eu-west-1", ForeignStore, "AWS_DEFAULT_REGION=eu-west-1"),
        (507, "InsufficientStorage", "", StoreFull, "free or add space"),
        (403, "ExpiredToken", "", StoreAccessRefused, "AWS_SESSION_TOKEN"),
        (503, "SlowDown", "", StorageError, "run again"),
    ],
)
def test_what_other_servers_say_is_named(
    aws: Seaweed,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    name: str,
    region: str,
    error: type[StorageError],
    expected: str,
) -> None:
    headers = {"x-amz-bucket-region": region} if region else {}
    with answering(status, f"<Error><Code>{name}</Code><Message>no</Message></Error>", headers) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(error, match=name) as caught:
            opened(place, tmp_path)
    assert type(caught.value) is error
    assert expected in caught.value.remedy


@pytest.mark.parametrize(("status", "error"), [(404, StoreUnreachable), (200, StorageError)])
def test_another_service_at_the_address_is_noticed(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, error: type[StorageError]
) -> None:
    with answering(status, "<html>MLflow</html>") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(error):
            opened(place, tmp_path)


def test_a_full_store_is_named_and_can_still_be_read(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Seaweed(tmp_path / "server", options={"volume.max": 2, "master.volumeSizeLimitMB": 1}).start()
    try:
        become("admin", server, monkeypatch)
        store = opened(place, tmp_path)
        kept = []

        def fill() -> None:
            # The server looks how full it is every few seconds; until then it takes more than it has room for.
            enough = time.monotonic() + 60
            while time.monotonic() < enough:
                kept.append(store.put_bytes(os.urandom(300_000)))

        with pytest.raises(StoreFull, match="no volume has room") as caught:
            fill()
        assert "add space" in caught.value.remedy
        assert kept
        assert S3Store(place, tmp_path / "another cache").path_of(kept[0]).stat().st_size == 300_000
    finally:
        server.stop()
