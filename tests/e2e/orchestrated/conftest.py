"""Real servers, once for all modules of this folder, and sites: machines of their own as far as one machine allows.

Each module has regions of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from regiolect.contracts import ReleaseResult
from regiolect.servers.local import LocalServers
from tests.flows.tiny_models import CPU, PORTABLE, WORKSHOP, Workshop
from tests.patience import PATIENCE

REPOSITORY = Path(__file__).parents[3]
REGIOLECT = (sys.executable, "-c", "from regiolect.cli.app import main; main()")


@dataclass(frozen=True)
class Site:
    """A machine: a home, a working directory, and copies of the model and of the data that nobody else reads.

    It shares nothing with other sites but what `environment` names: the servers.
    """

    folder: Path
    servers: Mapping[str, str]
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def workshop(self) -> Workshop:
        return Workshop(self.folder / "workshop")

    @property
    def environment(self) -> dict[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        own = {
            "REGIOLECT_HOME": str(self.folder / "home"),
            "REGIOLECT_POLICIES": str(self.workshop.policies),
            "REGIOLECT_MODELS": "tests.flows.tiny_models:TINY",
            WORKSHOP: str(self.workshop.folder),
            "TMPDIR": str(temporary),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PYTHONPATH": str(REPOSITORY),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            # One thread each: two cores are shared by everything.
            "OMP_NUM_THREADS": "1",
        }
        # Nothing of this process's own settings may reach another site.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "REGIOLECT_", "MLFLOW_"))}
        return {**inherited, **self.servers, **own, **self.more}

    def prefect(self) -> httpx.Client:
        """A client of the Prefect server's API, logged in."""
        user, _, password = self.servers["PREFECT_API_AUTH_STRING"].partition(":")
        return httpx.Client(base_url=self.servers["PREFECT_API_URL"], auth=(user, password), timeout=PATIENCE)

    def copy_from(self, other: Site) -> None:
        """The model package and the data, as a deployment of a new version would bring them."""
        shutil.rmtree(self.workshop.folder, ignore_errors=True)
        shutil.copytree(other.workshop.folder, self.workshop.folder)

    def command(self, *arguments: str, code: int | None = 0, **more: str) -> str:
        """Run `regiolect` here and return what it said.

        Args:
            code: the exit code it must end with; any if None.
        """
        done = subprocess.run(
            [*REGIOLECT, *arguments],
            cwd=self.folder,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def release(self, *arguments: str, code: int | None = 0, **more: str) -> ReleaseResult:
        """Run a release of the tiny model here."""
        result = self.folder / "result.json"
        self.command("run", "tests.flows.tiny_models:TINY", "--json", str(result), *arguments, code=code, **more)
        return ReleaseResult.model_validate_json(result.read_text())


@dataclass
class Sites:
    """Makes sites and the workers on them, and stops what it started."""

    folder: Path
    servers: LocalServers
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def site(self, name: str, **more: str) -> Site:
        folder = self.folder / name
        folder.mkdir()
        made = Site(folder, self.servers.environment(), more)
        made.workshop.folder.mkdir()
        return made

    def worker(self, site: Site, pool: str) -> subprocess.Popen[bytes]:
        """A process worker of a pool, once the server has seen its first heartbeat."""
        name = f"{pool}-{len(self.workers)}"
        with (site.folder / f"worker-{pool}.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "-n", name],
                cwd=site.folder,
                env={**site.environment, "PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_LOGGING_LEVEL": "INFO"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(worker)
        until = time.monotonic() + PATIENCE
        with site.prefect() as client:
            while name not in [
                each["name"] for each in client.post(f"/work_pools/{pool}/workers/filter", json={}).json()
            ]:
                assert worker.poll() is None, "the worker ended"
                assert time.monotonic() < until, "the worker does not come up"
                time.sleep(0.5)
        return worker

    def stop(self, workers: Sequence[subprocess.Popen[bytes]]) -> None:
        for worker in workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """PostgreSQL, S3, MLflow and Prefect, with buckets for the regions that these tests use."""
    home = tmp_path_factory.mktemp("servers")
    regions = Workshop(home / "workshop")
    regions.folder.mkdir()
    for region in ("north", "south", "east", "west"):
        regions.write_policy(region, CPU, PORTABLE)
    made = LocalServers(home, regions.policies, usual_ports=False)
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def sites(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("sites"), servers)
    yield made
    made.stop(made.workers)
