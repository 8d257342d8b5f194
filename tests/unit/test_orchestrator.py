"""What keeps a release from starting: said at once, by name, before anything was written."""

from __future__ import annotations

import re
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

import regiolect
from regiolect.errors import InvalidSetting, OrchestratorError, StorageError, UnknownModel, UsageError
from regiolect.orchestrator import run_release
from regiolect.planning import ReleaseRequest
from regiolect.settings import Settings

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def own_prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def start(home: Path) -> None:
    run_release(Settings(home=home), ReleaseRequest.of("no.such:MODEL", None))


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/api", "not an address"])
def test_a_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound but not listening: a connection is refused, and nobody else can take the port.
        monkeypatch.setenv("PREFECT_API_URL", address.format(port=free.getsockname()[1]))
        with pytest.raises(OrchestratorError, match="unset PREFECT_API_URL"):
            start(tmp_path / "home")


def test_a_full_disk_is_named_before_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 1 << 20))
    with pytest.raises(StorageError, match=r"256 MiB free.*found 1 MiB"):
        start(tmp_path / "home")


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError, match="REGIOLECT_HOME"):
        start(tmp_path / "home")


@pytest.mark.parametrize("call", [regiolect.plan, regiolect.run])
@pytest.mark.parametrize(
    ("option", "error", "told"),
    [
        ({"region": "eu"}, InvalidSetting, "did you mean regions=?"),
        ({"hom": "runs"}, InvalidSetting, "did you mean home=?"),
        ({"regions": []}, UsageError, "leave regions out for all"),
        ({"targets": " , "}, UsageError, "leave targets out for all"),
        ({"regions": b"eu"}, UsageError, 'regions="eu,na"'),
        ({"regions": ["eu", None]}, UsageError, 'regions="eu,na"'),
        ({"targets": 5}, UsageError, "names in targets, each a text"),
    ],
)
def test_a_misspelt_option_or_an_empty_list_does_not_mean_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Any,
    option: dict[str, Any],
    error: type[Exception],
    told: str,
) -> None:
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))
    with pytest.raises(error, match=re.escape(told)):
        call("no.such:MODEL", **option)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("call", [regiolect.plan, regiolect.run])
@pytest.mark.parametrize("model", [Path("model.onnx"), None, 5, "..models:MODEL"])
def test_what_is_no_model_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, model: Any
) -> None:
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))
    with pytest.raises(UnknownModel, match="Remedy: "):
        call(model)
