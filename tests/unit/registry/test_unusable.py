"""A registry that is cold, damaged, out of reach or without its driver: opened once, or named with a remedy."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from regiolect.errors import RegistryError
from regiolect.registry import Registry
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow


def test_processes_that_open_a_cold_store_together_all_register(bundles, tmp_path):
    script = (
        "import sys; from pathlib import Path; from regiolect.bundle.manifest import read_bundle;"
        "from regiolect.registry import Registry; folder = Path(sys.argv[2]);"
        "print(Registry(sys.argv[1]).register(folder, read_bundle(folder), True).version)"
    )
    uri = f"sqlite:///{tmp_path / 'cold' / 'mlflow.db'}"
    processes = []
    for region in ("a", "b"):
        bundles.write(tmp_path / region, bundles.artifact(region), region=region)
        command = [sys.executable, "-c", script, uri, str(tmp_path / region)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, "1\n")
        # On a loaded machine the others are waited for long enough to be told of; nothing else is said.
        assert all(line.startswith("waits to be alone at ") for line in err.splitlines())
    opened = Registry(uri)
    assert all(opened.champion("tiny", region) is not None for region in ("a", "b"))


def test_a_damaged_database_is_named_and_left_as_it_is(bundles, tmp_path, capfd):
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"this is no database" * 100)
    manifest = bundles.write(tmp_path / "bundle")
    started = time.monotonic()
    with pytest.raises(RegistryError, match="restore it from a backup") as caught:
        Registry(f"sqlite:///{database}").register(tmp_path / "bundle", manifest, champion=True)
    assert time.monotonic() - started < 15
    assert "not a database" in caught.value.found
    assert database.read_bytes() == b"this is no database" * 100
    assert not (tmp_path / "mlartifacts").exists()
    assert capfd.readouterr().err == "", "the vendor's own logging stays silent"


def test_an_unreachable_server_is_named_within_seconds(bundles, tmp_path, capfd):
    manifest = bundles.write(tmp_path / "bundle")
    started = time.monotonic()
    with pytest.raises(RegistryError, match="start the server"):
        Registry("http://127.0.0.1:9").register(tmp_path / "bundle", manifest, champion=True)
    assert time.monotonic() - started < 15
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "address",
    [
        "http://me:secret@127.0.0.1:9",
        "http://me:secret@[::",
        "postgresql+nowhere://me:secret@127.0.0.1:9/db",
        "postgresql://me:secret@host:port/db",
    ],
)
def test_no_password_is_shown(address, capfd):
    with pytest.raises(RegistryError) as caught:
        Registry(address).champion("tiny", "eu")
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert "://me:***@" in str(caught.value)
    assert capfd.readouterr().err == ""


class Dropping(BaseHTTPRequestHandler):
    """A server that is well and breaks off every other answer."""

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send_response(200)
            self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


def test_no_password_is_shown_by_the_cause_either(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = HTTPServer(("127.0.0.1", 0), Dropping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(RegistryError, match="start the server") as caught:
            Registry(f"http://me:secret@127.0.0.1:{server.server_port}").champion("tiny", "eu")
    finally:
        server.shutdown()
        server.server_close()
    assert f"secret@127.0.0.1:{server.server_port}" not in "".join(traceback.format_exception(caught.value))


def test_a_database_without_its_driver_is_named():
    with pytest.raises(RegistryError, match=r"No module named 'pg8000'.*driver"):
        Registry("postgresql+pg8000://127.0.0.1:9/db").champion("tiny", "eu")


def test_an_absent_mlflow_is_named(tmp_path):
    script = (
        "import sys; sys.modules['mlflow'] = None; from regiolect.registry import Registry;"
        "Registry(sys.argv[1]).champion('tiny', 'eu')"
    )
    for address in (f"sqlite:///{tmp_path / 'mlflow.db'}", "http://127.0.0.1:9"):
        done = subprocess.run([sys.executable, "-c", script, address], capture_output=True, text=True, check=False)
        assert "RegistryError: expected an MLflow registry" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "mlflow.db").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RegistryError, match="permissions"):
        Registry(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}").champion("tiny", "eu")
