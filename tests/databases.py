"""Prefect's and MLflow's databases, migrated and empty, made once for all processes of a test session.

To make Prefect's takes a processor 10 s, MLflow's 2, to copy one nothing. What a first run makes by itself is tested
where a home is not given its databases: tests/e2e/test_own_model.py.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from regiolect.registry import Registry
from regiolect.servers.temporary import TemporaryServer


@dataclass(frozen=True)
class Databases:
    """Makes each database where it is asked for first.

    folder: what all processes of the session share.
    """

    folder: Path

    def put(self, home: Path) -> None:
        """Both, into a home of Regiolect's that has none."""
        self.put_mlflow(home)
        self.put_prefect(home / "prefect")

    def put_mlflow(self, home: Path) -> None:
        """`mlflow.db`, into a folder."""
        shutil.copytree(self._once("mlflow", _make_mlflow), home, dirs_exist_ok=True)

    def put_prefect(self, home: Path) -> None:
        """`prefect.db`, and what a server remembers beside it, into a Prefect home."""
        shutil.copytree(self._once("prefect", _make_prefect), home, dirs_exist_ok=True)

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        finished = self.folder / name
        with FileLock(f"{finished}.lock"):
            if not finished.exists():
                begun = finished.with_suffix(".begun")
                begun.mkdir()
                make(begun)
                begun.rename(finished)
        return finished


def databases_of(factory: pytest.TempPathFactory) -> Databases:
    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "databases"
    folder.mkdir(exist_ok=True)
    return Databases(folder)


def _make_mlflow(folder: Path) -> None:
    Registry(f"sqlite:///{folder / 'mlflow.db'}", None).champion("nobody", "nowhere")


def _make_prefect(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder))
        server = TemporaryServer(folder)
        server.begin()
        server.wait()
        server.stop()
    # What it left in the log beside the database belongs into it, so that the one file is the whole.
    with closing(sqlite3.connect(folder / "prefect.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
