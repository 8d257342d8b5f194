"""One S3 server for all tests of the store, and stores of both kinds to run the same tests over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from regiolect.storage import LocalStore, S3Store, Store
from tests.seaweed import Identity, Seaweed

IDENTITIES = (
    Identity("reader", ("Read", "List")),
    Identity("eu", ("Read:regiolect-eu", "Write:regiolect-eu", "List:regiolect-eu")),
)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("seaweed"), ["regiolect", "regiolect-eu", "versioned"], IDENTITIES)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, seaweed: Seaweed) -> Seaweed:
    """The S3 server, with an environment that leads to it and nothing else of AWS in it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    return seaweed


@pytest.fixture
def place() -> str:
    """A place in the bucket that no other test uses."""
    return f"s3://regiolect/{uuid4().hex}"


Again = Callable[[], Store]


@pytest.fixture(params=["local", "s3"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Again:
    """Opens the same store as another machine would: with nothing of it at hand."""
    if request.param == "local":
        return lambda: LocalStore(tmp_path / "store")
    request.getfixturevalue("aws")
    location = request.getfixturevalue("place")
    return lambda: S3Store(location, tmp_path / "caches" / uuid4().hex)


@pytest.fixture
def store(again: Again) -> Store:
    return again()
