"""One region of one model, released again and again while something dies at the end of a stage."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from regiolect.bundle.manifest import read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import RegionOutcome
from regiolect.planning import LATEST
from regiolect.registry import CHAMPION, PREVIOUS, Registry
from regiolect.servers.local import LocalServers
from regiolect.storage import open_store
from tests.e2e.orchestrated.conftest import Site, Sites
from tests.e2e.orchestrated.faulty import release_with_fault
from tests.flows.tiny_models import ADDRESS
from tests.patience import PATIENCE


@dataclass
class Yard:
    """One region of one model, released again and again by processes that share nothing but folder and servers.

    seed: of the first model and its data; nobody else on these servers has it, or the next ones.
    """

    region: str
    seed: int
    site: Site
    servers: LocalServers
    log: Path
    released: int = 0

    def new_work(self) -> None:
        """Another model and other data: every stage has something to do."""
        self.released += 1
        self.site.workshop.write_model(seed=self.seed + self.released)
        self.site.workshop.write_data(self.region, seed=self.seed + self.released)
        self.log.unlink(missing_ok=True)

    def release(self, border: str | None = None, victim: str | None = None) -> int:
        """The exit code of a release: 0 when every engine is served, -9 when the process was killed."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.e2e.orchestrated.faulty", "flows.release", "mlflow", "openvino"])
        child = context.Process(
            target=release_with_fault, args=(ADDRESS, border, victim, self.servers.root.parent, self.log)
        )
        child.start()
        child.join(PATIENCE)
        hangs = child.exitcode is None
        child.kill()
        for server in ("postgres", "s3", "mlflow", "prefect"):
            self.servers.start(server)
        assert not hangs, "the release hangs"
        return int(child.exitcode or 0)

    def stages(self) -> Counter[str]:
        """How often each stage ended since the last new work."""
        return Counter(self.log.read_text().splitlines() if self.log.exists() else [])

    def assert_served_once(self) -> None:
        """The latest outcome is what the champion holds; one version per bundle; what is served is whole."""
        environment = self.site.environment
        store = open_store(environment["REGIOLECT_STORE"], self.site.folder / "reader", self.region)
        (outcome,) = store.records(LATEST, RegionOutcome)
        champion = self._champion()
        assert champion is not None
        assert champion.build_keys == (outcome.build_key,)
        client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
        versions = client.search_model_versions(f"name = 'tiny-{self.region}'")
        assert len(versions) == self.released, "one version for each new engine, no matter how often it was tried"
        assert len({version.tags["bundle"] for version in versions}) == self.released
        aliases = client.get_registered_model(f"tiny-{self.region}").aliases
        assert int(aliases[CHAMPION]) == self.released
        assert int(aliases.get(PREVIOUS, 0)) == self.released - 1

    def assert_nothing_half_registered(self) -> None:
        """Whatever is champion in between is whole."""
        champion = self._champion()
        if champion is not None:
            with Registry(self.site.environment["MLFLOW_TRACKING_URI"]).downloaded(champion) as bundle:
                verify_bundle(bundle, read_bundle(bundle))

    def _champion(self):
        return Registry(self.site.environment["MLFLOW_TRACKING_URI"]).by_alias(f"tiny-{self.region}", CHAMPION)


@contextmanager
def opened(sites: Sites, servers: LocalServers, region: str, seed: int, **rules: Any) -> Iterator[Yard]:
    """A yard of its own, as long as the block lasts; `rules` of its region's policy as for `write_policy`."""
    site = sites.site("yard", REGIOLECT_BUILD_ON="here", PREFECT_CLIENT_MAX_RETRIES="1")
    site.workshop.write_model()
    site.workshop.add(region, **rules)
    with pytest.MonkeyPatch.context() as patch:
        # The fork server is started with this environment, and every release with it.
        for name, value in {**site.environment, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}.items():
            patch.setenv(name, value)
        patch.chdir(site.folder)
        yield Yard(region, seed, site, servers, site.folder / "stages.log")
        multiprocessing.forkserver._forkserver._stop()
