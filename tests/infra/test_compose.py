"""compose.yaml: read by an implementation of the Compose specification, and checked for what it does not look at."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from regiolect.servers.object_store import mutual_tls

VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\}")


@pytest.fixture(scope="module")
def text(infra: Path) -> str:
    return (infra / "compose.yaml").read_text()


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return loaded


@pytest.fixture(scope="module")
def example(infra: Path) -> dict[str, str]:
    lines = (infra / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_is_what_the_specification_says(text: str) -> None:
    # Dumped anew: the parser knows neither Compose's variables nor YAML's merge keys.
    plain = yaml.safe_dump(yaml.safe_load(text))
    filled = VARIABLE.sub(lambda match: match["rest"] if match["how"] == "-" else "filled-in", plain)
    compose = PyCompose.from_yaml(filled)
    compose.validate()
    assert {"postgres", "s3", "mlflow", "prefect", "worker-control", "worker-cpu-x86", "worker-gpu"} <= set(
        compose.service_names()
    )


def test_the_parser_would_tell(text: str) -> None:
    with pytest.raises(ValueError, match="healthchek"):
        PyCompose.from_yaml("services:\n  a:\n    image: b:1\n    healthchek: {}\n")


def test_every_variable_is_in_the_example_and_has_its_default(text: str, example: dict[str, str]) -> None:
    used = {match["name"]: match for match in VARIABLE.finditer(text)}
    assert set(used) == set(example)
    for name, match in used.items():
        if match["how"] == "-":
            assert example[name] == match["rest"], name
        else:
            # Without it Compose stops and says so.
            assert match["how"] == "?" and example[name] == "", name


def test_it_is_closed_to_other_machines(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 3
    assert all(re.match(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+$", port) for port in published), published
    assert not [name for name, service in services.items() if service.get("network_mode") == "host"]
    assert not [name for name, service in services.items() if service.get("privileged")]


def test_no_secret_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"(?i)password|secret|key|token|auth_string", name) and not value.startswith("/tls/"):
                assert VARIABLE.fullmatch(value.removeprefix("regiolect:")), name
            for given in re.findall(r"://[^:/]+:([^@]+)@", VARIABLE.sub("<variable>", str(value))):
                assert given == "<variable>", name


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        image = VARIABLE.sub(lambda match: match["rest"], service["image"])
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image), name


def test_what_waits_waits_for_something_that_can_come(services: dict[str, dict[str, Any]], infra: Path) -> None:
    healthy_images = {"mlflow", "prefect"}
    server = (infra / "docker" / "Dockerfile.server").read_text()
    assert server.count("\nHEALTHCHECK ") == len(healthy_images)
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            if how["condition"] == "service_healthy":
                built = services[other].get("build", {}).get("target")
                assert "healthcheck" in services[other] or built in healthy_images, other
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no", other
            # A service that is only there on demand must not be needed by one that always is.
            assert set(services[other].get("profiles", ())) <= set(service.get("profiles", ())), other


def test_data_outlives_the_containers(text: str, services: dict[str, dict[str, Any]]) -> None:
    declared = set(yaml.safe_load(text)["volumes"])
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert mounted == declared


def test_our_own_containers_are_locked_down(services: dict[str, dict[str, Any]]) -> None:
    own = {name: service for name, service in services.items() if service["image"].startswith("regiolect-")}
    assert len(own) == 8
    for name, service in own.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_builds_name_files_and_targets_that_exist(services: dict[str, dict[str, Any]], infra: Path) -> None:
    for name, service in services.items():
        if "build" in service:
            file = (infra / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
            assert file.is_file(), name
            if "target" in service["build"]:
                assert f" AS {service['build']['target']}\n" in file.read_text(), name


def test_each_region_has_a_bucket(services: dict[str, dict[str, Any]], regions: frozenset[str]) -> None:
    assert set(services["s3-buckets"]["command"]) == {
        *(f"regiolect-{name}" for name in (*regions, "shared")),
        "mlflow",
    }
    assert services["worker-cpu-x86"]["environment"]["REGIOLECT_STORE"].startswith("s3://regiolect-{region}/")


def test_the_gpu_worker_is_there_on_demand_and_reserves_a_gpu(services: dict[str, dict[str, Any]]) -> None:
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    [device] = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert not [name for name, service in services.items() if service.get("profiles") and name != "worker-gpu"]


def test_prefect_and_mlflow_ask_for_a_login_that_every_client_has(services: dict[str, dict[str, Any]]) -> None:
    prefect, mlflow = services["prefect"]["environment"], services["mlflow"]["environment"]
    clients = [service["environment"] for name, service in services.items() if name.startswith(("worker-", "prefect-"))]
    assert len(clients) == 4
    for client in clients:
        assert client["PREFECT_API_AUTH_STRING"] == prefect["PREFECT_SERVER_API_AUTH_STRING"]
        assert client["MLFLOW_TRACKING_USERNAME"] == mlflow["MLFLOW_AUTH_ADMIN_USERNAME"]
        assert client["MLFLOW_TRACKING_PASSWORD"] == mlflow["MLFLOW_AUTH_ADMIN_PASSWORD"]
    assert "--app-name basic-auth" in services["mlflow"]["command"][0]


def test_prefect_and_mlflow_answer_under_their_own_names_alone(services: dict[str, dict[str, Any]]) -> None:
    prefect, mlflow = services["prefect"]["environment"], services["mlflow"]["environment"]
    assert set(prefect["SERVED_HOSTS"].split(",")) == {"prefect", "127.0.0.1", "localhost"}
    assert "*" not in mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"]
    for told in (prefect["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"], mlflow["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]):
        assert {VARIABLE.sub("", origin) for origin in told.split(",")} == {"http://127.0.0.1:", "http://localhost:"}


def test_of_the_object_store_only_the_gateway_is_on_the_network(services: dict[str, dict[str, Any]]) -> None:
    options = dict(option.lstrip("-").partition("=")[::2] for option in services["s3"]["command"][1:])
    assert (options["ip.bind"], options["s3.ip.bind"]) == ("127.0.0.1", "0.0.0.0")  # noqa: S104 - in a container
    assert {"disableHttp", "filer.disableHttp"} <= options.keys()
    assert options["s3.iam"] == "false"


def test_the_object_store_finds_a_certificate_for_each_of_its_parts(services: dict[str, dict[str, Any]]) -> None:
    environment, maker = services["s3"]["environment"], services["s3-certificates"]
    *_, module, folder = maker["entrypoint"]
    assert find_spec(module)
    assert f"s3-tls:{folder}" in maker["volumes"] and f"s3-tls:{folder}:ro" in services["s3"]["volumes"]
    told = {name: value for name, value in environment.items() if name.startswith("WEED_GRPC_")}
    assert told == mutual_tls(Path(folder))


def test_the_signing_key_is_within_reach_of_control_alone(services: dict[str, dict[str, Any]]) -> None:
    volumes = {name: service["volumes"] for name, service in services.items() if name.startswith("worker-")}
    # It is made in the home of the account that releases, which is its volume.
    assert volumes.pop("worker-control") == ["control:/scratch", "trust:/trust"]
    assert volumes
    # Whose signatures count is for all to read, and for the one that signs to change.
    assert all("trust:/trust:ro" in theirs for theirs in volumes.values())
    assert not [name for name, theirs in volumes.items() if any(volume.startswith("control:") for volume in theirs)]
    assert not [name for name in services if "REGIOLECT_SIGNING_KEY" in services[name].get("environment", {})]


def test_servers_keep_what_a_restart_must_not_lose(services: dict[str, dict[str, Any]]) -> None:
    environment = services["prefect"]["environment"]
    assert environment["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == (
        "prefect.server.concurrency.lease_storage.filesystem"
    )
    assert "prefect:/data" in services["prefect"]["volumes"]
    # SQLAlchemy takes a bare postgresql:// for psycopg 3, which is not installed.
    assert services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://")
    assert environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"].startswith("postgresql+asyncpg://")
