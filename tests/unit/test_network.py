"""An address leads to a file or to a server; what is said of it holds no password."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from regiolect.network import one_line, require_answer
from regiolect.registry.database import remedy, sqlite_file


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////data/mlflow.db", Path("/data/mlflow.db")),
        ("sqlite+pysqlite:////data/mlflow.db?timeout=5", Path("/data/mlflow.db")),
        ("sqlite:///mlflow.db", Path.cwd() / "mlflow.db"),
        ("sqlite:///:memory:", None),
        ("http://server:5000", None),
        ("postgresql://me:secret@host/db", None),
    ],
)
def test_only_a_sqlite_address_has_a_file(uri, file):
    assert sqlite_file(uri) == file


class Silent(BaseHTTPRequestHandler):
    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        self.send_error(403)

    def log_message(self, *args: object) -> None:
        pass


def test_any_answer_will_do_and_no_password_is_sent():
    Silent.seen = []
    server = HTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.handle_request).start()
    require_answer(f"http://me:secret@127.0.0.1:{server.server_port}/health", 5)
    server.server_close()
    assert Silent.seen == [None]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://me:secret@127.0.0.1:{port}/health", "refused"),
        ("http://host:port", "no usable address"),
        ("http://[::", "no usable address"),
    ],
)
def test_no_answer_is_an_error(address, said):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers there
        with pytest.raises(OSError, match=said):
            require_answer(address.format(port=taken.getsockname()[1]), 5)


def test_what_is_said_holds_no_password_even_where_it_is_cut():
    assert one_line("cannot open postgresql://me:secret@host/db\nmore") == "cannot open postgresql://me:***@host/db"
    long = one_line("x" * 270 + " http://me:a-very-long-secret-password-indeed@host")
    assert "secret" not in long
    upgrade = remedy("run 'mlflow db upgrade <database_uri>'", "postgresql://me:secret@host/db")
    assert upgrade.endswith("mlflow db upgrade postgresql://me:***@host/db")
