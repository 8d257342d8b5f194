"""Nights over several models: only what changed is released, and whatever stands in the way is told in the digest."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from flows.nightly import nightly
from regiolect.contracts import Decision, NightlyResult
from regiolect.registry import CHAMPION, Registry
from regiolect.settings import load_settings
from tests.flows.tiny_models import ADDRESS, Workshop

FLOATS = f"{ADDRESS}_FLOAT"


def _registry() -> Registry:
    settings = load_settings()
    return Registry(settings.tracking_uri, settings.artifact_root)


def _built(result: NightlyResult) -> list[tuple[str, str]]:
    return [(row.region, row.decision) for release in result.releases for row in release.rows if row.rebuilt]


class _Inbox(http.server.BaseHTTPRequestHandler):
    received: list[dict[str, str]]

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def inbox(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """What a webhook received, and a notification block that sends there."""
    received: list[dict[str, str]] = []
    handler = type("Inbox", (_Inbox,), {"received": received})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        block = CustomWebhookNotificationBlock(
            name="ops",
            url=f"http://127.0.0.1:{server.server_port}/",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        block.save("ops", overwrite=True)
        monkeypatch.setenv("REGIOLECT_NOTIFY", "custom-webhook/ops")
        yield received
        server.shutdown()


@pytest.fixture
def two_regions(workshop: Workshop) -> Workshop:
    workshop.add("north", precision="FP32")
    workshop.add("south", precision="FP32")
    return workshop


def test_a_night_releases_what_changed_and_whatever_stands_in_the_way_is_told(
    two_regions: Workshop, inbox: list[dict[str, str]]
) -> None:
    waiting = nightly([ADDRESS], dry_run=True)
    assert waiting.waiting == (f"{ADDRESS}: north, south",)
    assert waiting.releases == ()
    assert nightly([ADDRESS], regions=["north"], dry_run=True).waiting == (f"{ADDRESS}: north",)
    assert not list((load_settings().home / "store").rglob("outcomes/*")), "a dry run touches nothing"
    inbox.clear()

    first = nightly([ADDRESS])
    assert sorted(_built(first)) == [("north", Decision.APPROVED), ("south", Decision.APPROVED)]
    assert (first.models, first.engines, first.unchanged, first.troubles) == (1, 2, 0, ())
    (message,) = inbox
    assert message["subject"].startswith("nightly: 2 built, 2 served, 0 unchanged of 2 engines of 1 models")
    assert "models:/tiny-north@champion" in message["body"]

    second = nightly([ADDRESS])
    assert (second.releases, second.unchanged, second.engines) == ((), 2, 2)
    assert second.report is not None
    assert "nothing had changed" in Path(second.report).read_text()

    two_regions.write_data("south", seed=1)
    two_regions.add("west")
    policy = two_regions.policies / "west.yaml"
    policy.write_text(policy.read_text().replace("precision", "precison"))
    third = nightly([ADDRESS, "tests.flows.nowhere:MODEL"])
    assert _built(third) == [("south", Decision.APPROVED)], "north did not change, and troubles stop nothing else"
    kinds = {(trouble.model, trouble.region): trouble.failure.kind for trouble in third.troubles}
    assert kinds == {("tests.flows.nowhere:MODEL", None): "UnknownModel", ("tiny", "west"): "InvalidPolicy"}
    page = Path(str(third.report)).read_text()
    assert "check the spelling" in page
    assert "regiolect policies validate" in page

    policy.unlink()
    two_regions.write_data("south", seed=2)
    (load_settings().home / "mlflow.db").write_bytes(b"this is no database" * 100)
    blind = nightly([ADDRESS])
    assert _built(blind) == [("south", Decision.APPROVED)], "north is finished; whether it is served, nobody can say"
    assert {trouble.failure.kind for trouble in blind.troubles} == {"RegistryError"}


@pytest.mark.acceptance
def test_an_engine_that_was_approved_and_never_registered_is_registered_the_next_night(two_regions: Workshop) -> None:
    nightly([ADDRESS], regions=["north"])
    client = _registry()
    before = client.by_alias("tiny-north", CHAMPION)
    assert before is not None
    from mlflow import MlflowClient

    MlflowClient(load_settings().tracking_uri).delete_registered_model("tiny-north")
    result = nightly([ADDRESS], regions=["north"])
    ((row,),) = [release.rows for release in result.releases]
    assert (row.rebuilt, row.model_uri) == (False, "models:/tiny-north@champion")
    assert _registry().by_alias("tiny-north", CHAMPION) is not None


@pytest.mark.acceptance
def test_a_digest_that_cannot_be_sent_fails_nothing(two_regions: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_NOTIFY", "slack-webhook/nobody")
    result = nightly([ADDRESS], regions=["north"])
    assert _built(result) == [("north", Decision.APPROVED)]
    assert result.report is not None
