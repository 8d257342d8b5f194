"""Four processes at once: they open a cold PostgreSQL, and register by way of one MLflow server."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest

from regiolect.bundle.manifest import MANIFEST, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import RegisteredEngine
from regiolect.errors import RegistryError
from regiolect.registry import CHAMPION, PREVIOUS, Registry
from regiolect.registry.database import one_opens
from regiolect.servers.local import LocalServers
from tests.patience import PATIENCE

PROCESSES = 4
# Which bundle each process registers in every region: the first two have the same one.
BUNDLES = ("shared", "shared", "third", "fourth")

# Opens a cold database as soon as it can; registers one bundle per region when told to begin. In regions called
# "locked-..." the processes exclude each other at the aliases and write down who is champion at the end of their turn.
WORKER = """
import contextlib, json, os, sys
from pathlib import Path
from filelock import FileLock
from regiolect.bundle.manifest import read_bundle
from regiolect.registry import Registry

uri, cold, folder, bundle = *sys.argv[1:3], Path(sys.argv[3]), sys.argv[4]
assert Registry(cold).by_alias("nobody", "champion") is None
plain = Registry(uri)

@contextlib.contextmanager
def exclusively(name):
    if not name.startswith("tiny-locked"):
        yield
        return
    with FileLock(folder / f"{name}.lock"):
        yield
        with (folder / f"{name}.turns").open("a") as turns:
            print(plain.by_alias(name, "champion").version, file=turns)

registry = Registry(uri, exclusively=exclusively)
plain.by_alias("nobody", "champion"), registry.by_alias("nobody", "champion")
print("ready", flush=True)
sys.stdin.readline()
for region in json.loads(os.environ["REGIONS"]):
    path = folder / region / bundle
    made = registry.register(path, read_bundle(path), True)
    print(json.dumps([region, made.version]), flush=True)
"""


@pytest.fixture(scope="module")
def server(servers: LocalServers) -> Iterator[str]:
    """The address of MLflow; this process and those that it starts are let in."""
    said = servers.environment()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.setenv(name, said[name])
        yield said["MLFLOW_TRACKING_URI"]


@pytest.fixture
def postgres(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of PostgreSQL, without a database's name; the password is in a file that clients know of."""
    monkeypatch.setenv("PGPASSFILE", str(servers.root / "pgpass"))
    address = next(each.address for each in servers.status() if each.name == "postgres")
    assert address is not None
    return address.replace("postgresql://", "postgresql://regiolect@")


def _database(postgres: str, name: str) -> str:
    """A new, empty database's address."""
    with contextlib.closing(psycopg2.connect(f"{postgres}/postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    return f"{postgres.replace('postgresql://', 'postgresql+psycopg2://')}/{name}"


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


@dataclass(frozen=True)
class Kept:
    """What a store holds of one registered model: the version of each bundle, and what each alias points at."""

    versions: dict[str, int]
    aliases: dict[str, int]


def _kept(uri: str, regions: Sequence[str]) -> dict[str, Kept]:
    """By region; fails where a bundle has two versions, or a run has no version of its own."""
    client = _client(uri)
    experiment = client.get_experiment_by_name("regiolect/tiny").experiment_id
    runs = client.search_runs([experiment], max_results=1000)
    models = {model.name: model for model in client.search_registered_models(max_results=1000)}
    versions = client.search_model_versions("name LIKE 'tiny-%'", max_results=1000)
    found = {}
    for region in regions:
        of_region = [version for version in versions if version.name == f"tiny-{region}"]
        own_runs = [run.info for run in runs if run.data.tags.get("region") == region]
        assert sorted(run.run_id for run in own_runs) == sorted(version.run_id for version in of_region)
        assert {run.status for run in own_runs} == {"FINISHED"}
        by_bundle = {version.tags["bundle"]: int(version.version) for version in of_region}
        assert len(by_bundle) == len(of_region), f"{region} has a bundle twice"
        aliases = {alias: int(number) for alias, number in models[f"tiny-{region}"].aliases.items()}
        found[region] = Kept(by_bundle, aliases)
    return found


@pytest.mark.parametrize("count", [2, pytest.param(6, marks=pytest.mark.acceptance)])
def test_four_processes_open_a_cold_postgresql_at_once_and_register_at_once_and_lose_nothing(
    server, postgres, bundles, tmp_path, count
):
    regions = [f"{'locked' if number % 2 else 'free'}-{number}-of-{count}" for number in range(count)]
    for bundle in sorted(set(BUNDLES)):
        for region in regions:
            artifact = bundles.artifact(region, content=bundle.encode())
            bundles.write(tmp_path / region / bundle, artifact, region=region)
    cold = _database(postgres, f"cold_{count}")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, server, cold, str(tmp_path), bundle],
            env={**os.environ, "REGIONS": json.dumps(regions)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for bundle in BUNDLES
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    manifest = bundles.write(tmp_path / "bundle")
    assert Registry(cold, tmp_path / "artifacts").register(tmp_path / "bundle", manifest, True).champion
    assert list((tmp_path / "artifacts").rglob(MANIFEST)), "the folder that was asked for"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [worker.communicate(timeout=PATIENCE) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * PROCESSES, [err for _, err in told]
    made = [dict(json.loads(line) for line in out.splitlines()) for out, _ in told]

    registry = Registry(server)
    for region, kept in _kept(server, regions).items():
        assert len(kept.versions) == len(set(BUNDLES)), f"{region} lost a bundle"
        assert {each[region] for each in made} == set(kept.versions.values()), "all were told what is there"
        assert made[0][region] == made[1][region]
        others = dict(kept.aliases)
        champion = others.pop(CHAMPION)
        assert {champion, *others.values()} <= set(kept.versions.values())
        assert champion not in others.values()
        if region.startswith("locked"):
            turns = [int(line) for line in (tmp_path / f"tiny-{region}.turns").read_text().split()]
            assert len(turns) == PROCESSES
            changes = [number for number, _ in itertools.groupby(turns)]
            assert (champion, others) == (changes[-1], {PREVIOUS: changes[-2]})
        found = registry.by_alias(f"tiny-{region}", CHAMPION)
        assert found is not None and found.version == champion
        with registry.downloaded(found) as folder:
            manifest = read_bundle(folder)
            verify_bundle(folder, manifest)
            assert manifest.name == f"tiny-{region}"


class Killed(BaseException):
    """What a killed process looks like from inside: nothing catches it."""


class Dying:
    """A real MlflowClient that dies at the n-th call of one kind, before or after the server did what it asked."""

    def __init__(self, client: Any, call: str, count: int, after: bool) -> None:
        self._client, self._call, self._count, self._after = client, call, count, after

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self._count -= name == self._call
            dies = name == self._call and self._count == 0
            if dies and not self._after:
                raise Killed
            answer = getattr(self._client, name)(*arguments, **options)
            if dies:
                raise Killed
            return answer

        return call


@pytest.mark.parametrize(
    ("call", "count", "after"),
    [
        pytest.param("create_run", 1, True, marks=pytest.mark.acceptance),
        pytest.param("log_artifacts", 1, True, marks=pytest.mark.acceptance),
        pytest.param("set_terminated", 1, True, marks=pytest.mark.acceptance),
        pytest.param("create_model_version", 1, False, marks=pytest.mark.acceptance),
        ("create_model_version", 1, True),
        ("set_registered_model_alias", 1, True),
        pytest.param("set_registered_model_alias", 2, True, marks=pytest.mark.acceptance),
    ],
)
def test_what_a_killed_release_left_is_never_champion_and_the_next_completes_it(
    server, bundles, tmp_path, call, count, after
):
    region = f"killed-{call.replace('_', '-')}-{count}-{after}".lower()
    registry = Registry(server)
    made = []
    for content in (b"old", b"new"):
        folder = tmp_path / content.decode()
        manifest = bundles.write(folder, bundles.artifact(region, content=content), region=region)
        made.append((folder, manifest))
    old = registry.register(*made[0], True)
    dying = Registry(server, client_factory=lambda uri: Dying(_client(uri), call, count, after))
    with pytest.raises(Killed):
        dying.register(*made[1], True)
    champion = registry.by_alias(f"tiny-{region}", CHAMPION)
    assert champion is not None
    assert champion.version == (2 if call == "set_registered_model_alias" and count == 2 else old.version)
    with registry.downloaded(champion) as folder:
        verify_bundle(folder, read_bundle(folder))
    assert registry.register(*made[1], True).version == 2
    kept = _kept(server, [region])[region]
    assert (sorted(kept.versions.values()), kept.aliases) == ([1, 2], {CHAMPION: 2, PREVIOUS: 1})


class Overtaken:
    """A real MlflowClient; before or after one of its calls something else happens."""

    def __init__(self, client: Any, call: str, after: bool, happens: Callable[[], object]) -> None:
        self._client, self._call, self._after, self._happens = client, call, after, happens

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            now = name == self._call
            self._call = "" if now else self._call
            if now and not self._after:
                self._happens()
            answer = getattr(self._client, name)(*arguments, **options)
            if now and self._after:
                self._happens()
            return answer

        return call


@pytest.mark.parametrize("other", [pytest.param("same", marks=pytest.mark.acceptance), "different"])
@pytest.mark.parametrize(
    ("call", "after"),
    [
        pytest.param("search_model_versions", True, marks=pytest.mark.acceptance),
        pytest.param("create_run", True, marks=pytest.mark.acceptance),
        pytest.param("log_artifacts", True, marks=pytest.mark.acceptance),
        pytest.param("set_terminated", True, marks=pytest.mark.acceptance),
        pytest.param("create_model_version", False, marks=pytest.mark.acceptance),
        ("create_model_version", True),
        ("set_registered_model_alias", False),
        pytest.param("set_registered_model_alias", True, marks=pytest.mark.acceptance),
    ],
)
def test_who_is_overtaken_at_any_call_ends_with_the_same_versions(server, bundles, tmp_path, call, after, other):
    region = f"overtaken-{call.replace('_', '-')}-{after}-{other}".lower()
    mine = bundles.write(tmp_path / "mine", bundles.artifact(region, content=b"mine"), region=region)
    content = b"mine" if other == "same" else b"other"
    theirs = bundles.write(tmp_path / "theirs", bundles.artifact(region, content=content), region=region)
    told: list[RegisteredEngine] = []

    def overtake() -> None:
        told.append(Registry(server).register(tmp_path / "theirs", theirs, True))

    slow = Registry(server, client_factory=lambda uri: Overtaken(_client(uri), call, after, overtake))
    told.append(slow.register(tmp_path / "mine", mine, True))
    kept = _kept(server, [region])[region]
    assert len(kept.versions) == (1 if other == "same" else 2)
    assert {each.version for each in told} == set(kept.versions.values())
    champion = kept.aliases.pop(CHAMPION)
    assert champion in kept.versions.values()
    assert champion not in kept.aliases.values()
    assert [each.version for each in told if each.champion][-1] == champion


def test_a_bundle_is_not_both_champion_and_challenger(server, bundles, tmp_path):
    manifest = bundles.write(tmp_path / "bundle", bundles.artifact("both"), region="both")

    def overtake() -> None:
        Registry(server).register(tmp_path / "bundle", manifest, True)

    slow = Registry(
        server, client_factory=lambda uri: Overtaken(_client(uri), "set_registered_model_alias", False, overtake)
    )
    assert slow.register(tmp_path / "bundle", manifest, False).champion
    assert _kept(server, ["both"])["both"].aliases == {CHAMPION: 1}


def test_who_holds_a_cold_postgresql_too_long_is_named(postgres, caplog):
    uri = _database(postgres, "held")
    holder = r"backend \d+ of the database \(from 127.0.0.1\) holds it since \d\d:\d\d:\d\d UTC"
    with one_opens(uri, 5), pytest.raises(RegistryError, match=holder), one_opens(uri, 1.5):
        pass
    assert "waits to be alone at a database that is opened for the first time: backend " in caplog.text
    with one_opens(uri, 0.2):
        pass
