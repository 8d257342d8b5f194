"""A release over two targets whose workers share nothing with it, or with each other, but S3 and the servers.

The tests of this module go on from each other, as a week in production would: a target without a worker, one that
comes up, a person who presses a button, a worker that dies in the middle of a build.
"""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import httpx
import psycopg2
import pytest
from mlflow import MlflowClient

from regiolect.contracts import Decision, RegionOutcome, ReleaseResult, ReleaseRow
from regiolect.planning import OUTCOMES
from regiolect.servers.credentials import keep_credentials
from regiolect.servers.local import LocalServers
from regiolect.servers.state import read_state
from regiolect.storage import blobs_of, open_store
from tests.e2e.orchestrated import leftovers
from tests.e2e.orchestrated.conftest import Site, Sites
from tests.flows.tiny_models import ADDRESS, CPU, PLANTED, PORTABLE
from tests.patience import PATIENCE

TARGETS = ("cpu", "portable")
S3 = "s3://regiolect-{region}/store"


@dataclass
class Plant:
    """Where releases are started, and the two machines that build."""

    control: Site
    at: dict[str, Site]
    sites: Sites

    def api(self, path: str, **body: object) -> object:
        """Ask the Prefect server."""
        with self.control.prefect() as client:
            answer = client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def builds(self) -> list[tuple[str, str, str]]:
        """Name, state and id of every build that a pool was sent, newest first."""
        runs = self.api(
            "/flow_runs/filter", flows={"name": {"any_": ["build-region"]}}, sort="EXPECTED_START_TIME_DESC", limit=200
        )
        assert isinstance(runs, list)
        return [(run["name"], run["state"]["name"], run["id"]) for run in runs]

    def deploy_everywhere(self) -> None:
        for site in self.at.values():
            site.copy_from(self.control)


@pytest.fixture(scope="module")
def plant(sites: Sites, monkeypatch_module: pytest.MonkeyPatch) -> Plant:
    control = sites.site("control", REGIOLECT_WORKER_WAIT_SECONDS="15")
    control.workshop.write_model()
    control.workshop.add("north", CPU, PORTABLE)
    control.workshop.add("south", CPU, precision="FP32")
    for name, value in control.servers.items():
        if name.startswith(("AWS_", "MLFLOW_TRACKING_")):
            monkeypatch_module.setenv(name, value)
    made = Plant(control, {name: sites.site(name) for name in TARGETS}, sites)
    made.deploy_everywhere()
    control.command("pools", "apply")
    return made


def _row(result: ReleaseResult, region: str, target: str) -> ReleaseRow:
    (row,) = [row for row in result.rows if (row.region, row.target) == (region, target)]
    return row


@pytest.fixture(scope="module")
def first(plant: Plant) -> ReleaseResult:
    """A release while nobody works for the target `portable`."""
    plant.sites.worker(plant.at["cpu"], "cpu")
    return plant.control.release(code=1)


def test_a_target_without_a_worker_is_refused_in_time_and_its_run_is_cancelled(
    plant: Plant, first: ReleaseResult
) -> None:
    row = _row(first, "north", "portable")
    assert row.decision is Decision.REFUSED
    assert row.failure is not None
    assert row.failure.kind == "NoWorker"
    assert not row.rebuilt
    assert "prefect worker start --pool portable" in row.failure.remedy
    states = {name: state for name, state, _ in plant.builds()}
    assert states["tiny-north-portable"] == "Cancelled"


def test_the_other_targets_and_regions_are_unharmed(plant: Plant, first: ReleaseResult) -> None:
    for region in ("north", "south"):
        row = _row(first, region, "cpu")
        assert (row.decision, row.rebuilt) == (Decision.APPROVED, True)
        assert row.model_uri == f"models:/tiny-{region}@champion"


def test_what_a_worker_made_lies_in_its_regions_bucket_and_nowhere_else(plant: Plant, first: ReleaseResult) -> None:
    homes = [plant.control, *plant.at.values()]
    assert not [path for site in homes for path in (site.folder / "home").glob("store/*")], "no local store"
    for region in ("north", "south"):
        row = _row(first, region, "cpu")
        store = open_store(S3, plant.control.folder / "reader", region)
        outcome = store.get_record(OUTCOMES, str(row.build_key), RegionOutcome)
        assert outcome is not None
        assert outcome.engine is not None
        assert outcome.evaluation is not None
        made = [outcome.evaluation.results.uri, *(file.blob.uri for file in outcome.engine.files)]
        assert all(uri.startswith(f"s3://regiolect-{region}/store/blobs/") for uri in made)
        places = {blob.uri.split("/")[2] for blob in blobs_of(outcome)}
        assert places <= {f"regiolect-{region}", "regiolect-shared"}, "an FP32 region's graph is the exported one"
        assert all(store.path_of(blob).stat().st_size == blob.size for blob in blobs_of(outcome))


def test_a_champion_holds_what_its_workers_built(plant: Plant, first: ReleaseResult) -> None:
    client = MlflowClient(plant.control.servers["MLFLOW_TRACKING_URI"])
    for region in ("north", "south"):
        version = client.get_model_version_by_alias(f"tiny-{region}", "champion")
        assert version.tags["build_key"] == _row(first, region, "cpu").build_key


def test_a_worker_that_comes_up_is_given_what_was_left_and_nothing_is_built_twice(
    plant: Plant, first: ReleaseResult
) -> None:
    plant.sites.worker(plant.at["portable"], "portable")
    before = {run for _, _, run in plant.builds()}
    result = plant.control.release(REGIOLECT_WORKER_WAIT_SECONDS="300")
    assert [(row.region, row.target) for row in result.rows if row.rebuilt] == [("north", "portable")]
    assert [name for name, _, run in plant.builds() if run not in before] == ["tiny-north-portable"]
    assert all(row.decision is Decision.APPROVED and row.model_uri for row in result.rows)
    assert result.rows[0].build_key == _row(first, "north", "cpu").build_key


def test_a_person_starts_a_release_on_the_server_and_what_is_finished_is_left_alone(plant: Plant) -> None:
    """Started as the form does, run by a worker of the pool `control` on a third machine."""
    office = plant.sites.site("office")
    office.copy_from(plant.control)
    plant.sites.worker(office, "control")
    with plant.control.prefect() as client:
        deployment = client.get("/deployments/name/release/release").json()
        refused = client.post(
            f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": {"model": "nobody:MODEL"}}
        )
    assert refused.status_code in (409, 422)
    assert "nobody:MODEL" in refused.text, "an unknown model is refused before anything runs"
    run = plant.api(
        f"/deployments/{deployment['id']}/create_flow_run",
        parameters={"model": "tests.flows.tiny_models:TINY", "regions": ["south"]},
    )
    assert isinstance(run, dict)
    state = _when_over(plant.control, run["id"])
    assert state == "Completed"
    report = next((office.folder / "home" / "reports").glob("tiny-*.json"))
    (row,) = ReleaseResult.model_validate_json(report.read_text()).rows
    assert (row.region, row.rebuilt, row.model_uri) == ("south", False, "models:/tiny-south@champion")


def test_a_page_from_elsewhere_and_who_has_the_login_run_no_command(plant: Plant) -> None:
    """While a worker of `control`, whose account holds the signing key, waits for runs."""
    server, witness = plant.control.servers["PREFECT_API_URL"], plant.control.folder / "was-here"
    with plant.control.prefect() as client:
        release = client.get("/deployments/name/release/release").json()["id"]
        path = f"/deployments/{release}/create_flow_run"
        parameters = {"model": "tests.flows.tiny_models:TINY", "regions": ["south"], "dry_run": True}
        takeovers: tuple[dict[str, object], ...] = (
            {"command": f"touch {witness}"},
            {"env": {"PYTHONSTARTUP": str(witness)}},
            {"env.PYTHONPATH": str(plant.control.folder)},
            {"working_dir": str(plant.control.folder)},
            {"image": "theirs:1"},
        )
        before = client.post("/flow_runs/count", json={}).json()
        for job in takeovers:
            body = json.dumps({"parameters": parameters, "job_variables": job})
            # As a page sends it without asking the browser's leave, and with it; as one whose name was pointed here.
            for kind in ("text/plain", "application/json"):
                sent = {"Origin": "http://elsewhere.example", "Content-Type": kind}
                assert httpx.post(server + path, content=body, headers=sent, timeout=PATIENCE).status_code == 401
            assert client.post(path, content=body, headers={"Host": "elsewhere.example"}).status_code == 400
            refused = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert refused.status_code == 422, f"{job}: {refused.text}"
        assert client.post("/flow_runs/count", json={}).json() == before, "there is nothing that a worker could take up"
    assert not witness.exists()


# Among the others, tests/flows/test_pools.py says what becomes of a run that falls silent.
@pytest.mark.acceptance
def test_a_worker_killed_in_the_middle_of_a_build_costs_that_build_and_nothing_else(plant: Plant) -> None:
    """New data for both regions; the machine of `portable` dies while it scores its engine on the gate set."""
    client = MlflowClient(plant.control.servers["MLFLOW_TRACKING_URI"])
    before = client.get_model_version_by_alias("tiny-north", "champion").version
    for region in ("north", "south"):
        plant.control.workshop.write_data(region, seed=5)
    plant.control.workshop.write_policy("north", CPU, PORTABLE, nightly={"deadline_minutes": 2})
    plant.deploy_everywhere()
    dying = plant.at["portable"]
    # What it chose its graph by was scored with the first two.
    dying.workshop.fuse.write_text("2")
    dying.workshop.kills_worker.touch()
    result = plant.control.release(code=1, REGIOLECT_WORKER_WAIT_SECONDS="110")
    lost = _row(result, "north", "portable")
    assert lost.failure is not None
    assert lost.failure.kind in ("DeadlineExceeded", "RunLost"), "the deadline came, or the server missed its heartbeat"
    for region in ("north", "south"):
        assert _row(result, region, "cpu").decision is Decision.APPROVED
    assert _row(result, "north", "cpu").model_uri is None, "the champion serves both targets and stays"
    assert client.get_model_version_by_alias("tiny-north", "champion").version == before
    registered = [version.tags["build_key"] for version in client.search_model_versions("name = 'tiny-north'")]
    assert not [keys for keys in registered if str(lost.build_key) in keys], "nothing of it is registered"
    store = open_store(S3, plant.control.folder / "reader", "north")
    assert store.get_record(OUTCOMES, str(lost.build_key), RegionOutcome) is None, "nothing passes for finished"
    assert plant.sites.workers[1].wait(timeout=PATIENCE) == -signal.SIGKILL
    states = {name: state for name, state, _ in reversed(plant.builds())}
    assert states["tiny-north-portable"] in ("Cancelled", "Crashed"), "the child does not outlive its parent's wait"

    dying.workshop.fuse.unlink()
    dying.workshop.kills_worker.unlink()
    plant.control.workshop.write_policy("north", CPU, PORTABLE)
    plant.sites.worker(dying, "portable")
    mended = plant.control.release(REGIOLECT_WORKER_WAIT_SECONDS="300")
    assert [(row.region, row.target) for row in mended.rows if row.rebuilt] == [("north", "portable")]
    assert all(row.model_uri for row in mended.rows)


@dataclass(frozen=True)
class Planted:
    """A PostgreSQL with a password that should have been encoded, and another secret in the query.

    secrets: these, and one in the address of a registry.
    release: the command that releases one region, registering there.
    """

    port: int
    own: str
    secrets: tuple[str, str, str] = ("plan/ted:pass-0815", "planted-in-query-0816", "planted-token-0817")
    release: tuple[str, ...] = ("run", "tests.flows.tiny_models:TINY", "-v", "--regions", "south")

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=regiolect password={self.own}"

    @property
    def there(self) -> dict[str, str]:
        return {"REGIOLECT_MLFLOW_TRACKING_URI": self._address(self.port)}

    @property
    def nowhere(self) -> dict[str, str]:
        """The same address, where nothing answers."""
        return {"REGIOLECT_MLFLOW_TRACKING_URI": self._address(1)}

    @property
    def token(self) -> dict[str, str]:
        return {"REGIOLECT_MLFLOW_TRACKING_URI": f"http://{self.secrets[2]}@127.0.0.1:1"}

    def _address(self, port: int) -> str:
        query = f"sslpassword={self.secrets[1]}&application_name=regiolect"
        return f"postgresql+psycopg2://planted:{self.secrets[0]}@127.0.0.1:{port}/planted?{query}"

    def make(self) -> None:
        with closing(psycopg2.connect(f"{self.dsn} dbname=postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE ROLE planted SUPERUSER LOGIN PASSWORD %s", (self.secrets[0],))
                cursor.execute("CREATE DATABASE planted OWNER planted")

    def assert_nowhere(self, said: str, plant: Plant, servers: LocalServers) -> None:
        """Neither these secrets nor the servers' are in what was said, homes, reports, logs, databases and buckets."""
        names = {"AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD"}
        environment = plant.control.servers
        theirs = {environment[name].rpartition(":")[2] for name in names & environment.keys()}
        hidden = {self.own, PLANTED, *self.secrets, *theirs}
        forms = {form.encode() for each in hidden for form in (each, quote(each, safe=""), *each.split("/")[1:])}
        found = {
            "what was said": [("the terminal", said.encode())],
            "homes": leftovers.files(plant.sites.folder),
            "servers' logs": leftovers.files(servers.root / "logs"),
            "databases": (row for name in ("mlflow", "prefect", "planted") for row in leftovers.rows(self.dsn, name)),
            "buckets": leftovers.objects(),
        }
        for what, contents in found.items():
            known = False
            for place, content in contents:
                # What Prefect's worker hands to a run it starts; a worker that is killed leaves it behind, for its own
                # account alone.
                if "/prefect-workspace-attempt-" in place:
                    assert Path(place).stat().st_mode & 0o077 == 0
                    continue
                known |= b"tiny" in content
                assert not [form for form in forms if form in content], f"a secret in {place}"
            assert known, f"{what} are empty of releases: nothing was searched"


@pytest.fixture(scope="module")
def planted(servers: LocalServers) -> Planted:
    made = Planted(
        read_state(servers.root / "state.json").servers["postgres"].ports["sql"],
        keep_credentials(servers.root / "credentials.json").database_password,
    )
    made.make()
    return made


@pytest.mark.usefixtures("first")
def test_nothing_that_a_release_leaves_tells_a_secret(plant: Plant, servers: LocalServers, planted: Planted) -> None:
    """Registered at the planted address; and once more where nothing answers, with samples whose loading fails with an
    error that no library of ours foresaw."""
    said = plant.control.command(*planted.release, **planted.there)
    assert "postgresql+psycopg2://planted:***@127.0.0.1" in said
    plant.control.workshop.write_data("south", seed=9)
    plant.deploy_everywhere()
    plant.at["cpu"].workshop.set_fault("data of south", "tell")
    # North is as it was, and only its registration fails.
    of_data = plant.control.command(*planted.release[:-1], "south,north", code=1, **planted.nowhere)
    assert "RegistryError\n  expected  an MLflow registry at postgresql+psycopg2://planted:***@127.0.0.1:1/" in of_data
    assert "401 for url: https://bot:***@data.example/x.npz?key=***" in of_data
    planted.assert_nowhere(said + of_data, plant, servers)


@pytest.mark.acceptance
@pytest.mark.usefixtures("first")
def test_nor_do_other_commands_and_a_model_that_fails(plant: Plant, servers: LocalServers, planted: Planted) -> None:
    said = ""
    commands = (("audit",), ("show", "tiny-south"), ("doctor",), ("plan", planted.release[1]))
    for command, elsewhere in zip(commands, (planted.token, planted.nowhere) * 2, strict=True):
        said += plant.control.command(*command, code=None, **elsewhere)
    assert "http://***@127.0.0.1:1" in said
    plant.control.workshop.write_model(seed=9)
    plant.control.workshop.set_fault(ADDRESS, "tell")
    of_model = plant.control.command(*planted.release, code=1)
    assert "401 for url: https://bot:***@data.example/x.npz?key=***" in of_model
    planted.assert_nowhere(said + of_model, plant, servers)


def _when_over(site: Site, run: str) -> str:
    until = time.monotonic() + PATIENCE
    with site.prefect() as client:
        while time.monotonic() < until:
            state = client.get(f"/flow_runs/{UUID(run)}").json()["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return str(state["name"])
            time.sleep(0.5)
    raise AssertionError(f"still {state['name']} after {PATIENCE} s")
