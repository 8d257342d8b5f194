"""What the policies become on a Prefect server: which pools and deployments there are, and that no two collide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from cronsim import CronSim

from flows.deploy.deployments import CONTROL, Deployment, deployments, pools, prefect_yaml
from regiolect.errors import InvalidPolicy, InvalidSetting
from regiolect.policy import PolicyBook
from regiolect.settings import Settings

ROOT = Path(__file__).parents[4]
POLICY = """
region: {region}
title: The {region}
reason: A policy for the purpose of a test, no more.
precision: INT8
accuracy: {{metric: accuracy, limit: 0.5}}
targets: [{targets}]
"""


def book(folder: Path, **targets: str) -> PolicyBook:
    """A folder of policies: region=targets, with underscores for dashes in a region's name."""
    for name, names in targets.items():
        region = name.replace("_", "-")
        listed = ", ".join(f"{{name: {target}, backend: onnxruntime}}" for target in names.split())
        (folder / f"{region}.yaml").write_text(POLICY.format(region=region, targets=listed))
    return PolicyBook(folder)


def named(full_name: str, of: PolicyBook) -> Deployment:
    return next(each for each in deployments(of) if each.full_name == full_name)


def test_every_region_has_a_nightly_and_a_build_in_the_pool_of_each_of_its_targets() -> None:
    builtin = PolicyBook()
    found = {each.full_name: each for each in deployments(builtin)}
    assert len(found) == len(deployments(builtin)), "else two deployments share a name"
    for policy in builtin.all():
        assert found[f"nightly/{policy.region}"].parameters == {"regions": [policy.region]}
        for target in policy.targets:
            build = found[f"build-region/{policy.region}-{target.name}"]
            assert build.pool == target.name
            assert {f"region:{policy.region}", policy.precision.value, target.name} <= set(build.tags)
    assert {each.pool for each in found.values()} == {pool.name for pool in pools(builtin)}


def test_every_build_has_a_tuning_beside_it_in_the_same_pool(tmp_path: Path) -> None:
    policies = book(tmp_path, north="gpu-t4 cpu-x86", south="cpu-x86")
    for target in ("gpu-t4", "cpu-x86"):
        build, tuning = (named(f"{flow}/north-{target}", policies) for flow in ("build-region", "tune"))
        assert (tuning.pool, tuning.tags, tuning.gpu, tuning.collision) == (
            build.pool,
            build.tags,
            build.gpu,
            build.collision,
        )
        assert tuning.parameters == {"region": "north", "target": target}


def test_builds_for_gpus_are_tagged_so_and_others_are_not(tmp_path: Path) -> None:
    policies = book(tmp_path, north="gpu-t4 cpu-x86")
    assert "gpu" in named("build-region/north-gpu-t4", policies).tags
    assert "gpu" not in named("build-region/north-cpu-x86", policies).tags


def test_what_waits_for_builds_never_takes_a_place_in_their_pools(tmp_path: Path) -> None:
    policies = book(tmp_path, north="gpu-t4 cpu-x86", south="cpu-x86")
    parents = [each for each in deployments(policies) if each.flow not in ("build-region", "tune")]
    assert {each.flow for each in parents} == {"release", "nightly", "audit"}
    assert {each.pool for each in parents} == {CONTROL}


def test_nightlies_start_at_the_hour_of_their_own_region_and_never_twice_at_a_time() -> None:
    for policy in PolicyBook().all():
        nightly = named(f"nightly/{policy.region}", PolicyBook())
        assert nightly.schedule is not None
        zone = ZoneInfo(nightly.schedule.timezone)
        assert next(CronSim(nightly.schedule.cron, datetime(2026, 1, 31, tzinfo=zone))) == datetime(
            2026, 1, 31, 2, tzinfo=zone
        )
        assert (nightly.collision, nightly.queue) == ("CANCEL_NEW", "nightly")
    others = {each.flow: each.schedule for each in deployments(PolicyBook()) if each.flow != "nightly"}
    audit = others.pop("audit")
    assert audit is not None and audit.slug == "daily"
    assert set(others.values()) == {None}


def test_two_builds_of_one_name_are_refused(tmp_path: Path) -> None:
    policies = book(tmp_path, a="b-c", a_b="c")
    with pytest.raises(InvalidPolicy, match=r"'a-b-c' of a on b-c and of a-b on c"):
        deployments(policies)


def test_a_target_may_not_take_the_name_of_the_pool_in_which_parents_wait(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match="give the target another name"):
        pools(book(tmp_path, north=CONTROL))


@pytest.mark.parametrize(
    ("target", "pool_type", "expected"),
    [
        ("cpu-x86", "process", {}),
        ("cpu-x86", "docker", {"image": "worker:1"}),
        ("gpu-t4", "docker", {"image": "worker-gpu:1", "device_requests": [{"Count": 1, "Capabilities": [["gpu"]]}]}),
        ("cpu-x86", "kubernetes", {"image": "worker:1", "gpus": 0, "service_account_name": "regiolect-north"}),
        (
            "gpu-t4",
            "kubernetes",
            {
                "image": "worker-gpu:1",
                "gpus": 1,
                "service_account_name": "regiolect-north",
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            },
        ),
    ],
)
def test_a_build_gets_what_its_kind_of_pool_needs(
    tmp_path: Path, target: str, pool_type: str, expected: dict[str, object]
) -> None:
    build = named(f"build-region/north-{target}", book(tmp_path, north="gpu-t4 cpu-x86"))
    variables = build.job_variables(pool_type, Settings(image="worker:1", image_gpu="worker-gpu:1"))
    assert variables.pop("env")["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert variables == expected


def test_parents_get_the_account_of_no_region(tmp_path: Path) -> None:
    nightly = named("nightly/north", book(tmp_path, north="cpu-x86"))
    variables = nightly.job_variables("kubernetes", Settings(image="worker:1"))
    assert variables["service_account_name"] == "regiolect-control"


@pytest.mark.parametrize("pool_type", ["docker", "kubernetes"])
def test_in_containers_only_parents_are_given_a_key(tmp_path: Path, pool_type: str) -> None:
    policies, settings = book(tmp_path, north="cpu-x86"), Settings(image="worker:1")
    nightly = named("nightly/north", policies).job_variables(pool_type, settings)
    build = named("build-region/north-cpu-x86", policies).job_variables(pool_type, settings)
    assert nightly["env"]["REGIOLECT_SIGNING_KEY"] == "/signing/signing-key.pem"
    assert nightly["env"]["REGIOLECT_TRUST"] == build["env"]["REGIOLECT_TRUST"] == "/signing/trust.json"
    assert nightly.get("signing_secret") == ("regiolect-signing" if pool_type == "kubernetes" else None)
    assert "REGIOLECT_SIGNING_KEY" not in build["env"]
    assert "signing_secret" not in build


def test_containers_without_an_image_are_refused_by_name(tmp_path: Path) -> None:
    build = named("build-region/north-cpu-x86", book(tmp_path, north="cpu-x86"))
    with pytest.raises(InvalidSetting, match=r"REGIOLECT_IMAGE.*docker pool 'cpu-x86'"):
        build.job_variables("docker", Settings())


def test_the_committed_prefect_file_is_what_the_list_says() -> None:
    written = (ROOT / "infra" / "prefect.yaml").read_text(encoding="utf-8")
    assert written == prefect_yaml(PolicyBook(), Settings()), "regiolect pools write infra/prefect.yaml"


def test_the_prefect_file_fetches_no_code_and_names_modules() -> None:
    content = yaml.safe_load(prefect_yaml(PolicyBook(), Settings()))
    assert content["pull"] == []
    assert all(":" not in each["entrypoint"] for each in content["deployments"])


# Prefect's schedules take seconds to import.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cron", "zone", "night", "begins"),
    [
        ("30 2 * * *", "Europe/Brussels", "2025-03-30", "01:30 CET"),
        ("30 2 * * *", "Europe/Brussels", "2025-10-26", "02:30 CEST"),
        ("0 1 * * *", "America/New_York", "2025-11-02", "01:00 EDT"),
        # Half an hour, and a gap at midnight.
        ("45 1 * * *", "Australia/Lord_Howe", "2025-04-06", "01:45 +11"),
        ("0 0 * * *", "Africa/Cairo", "2025-04-25", "23:00 EET"),
    ],
)
def test_in_a_night_in_which_clocks_change_one_run_begins(
    tmp_path: Path, cron: str, zone: str, night: str, begins: str
) -> None:
    """Of what Prefect's scheduler asks its schedule for, hour by hour; it inserts a time but once."""
    from prefect.server.schemas.schedules import CronSchedule

    book(tmp_path, fjord="cpu-fjord")
    with (tmp_path / "fjord.yaml").open("a") as policy:
        policy.write(f"nightly: {{cron: {cron!r}, timezone: {zone}}}\n")
    ours = named("nightly/fjord", PolicyBook(tmp_path)).schedule
    assert ours is not None
    schedule, here = CronSchedule(cron=ours.cron, timezone=ours.timezone), ZoneInfo(zone)
    middle = datetime.fromisoformat(night).replace(tzinfo=here).astimezone(UTC)
    hours = [middle + timedelta(hours=hour) for hour in range(-40, 20)]
    times = {each.astimezone(UTC) for hour in hours for each in schedule._get_dates_generator(n=3, start=hour)}
    near = [each.astimezone(here) for each in sorted(times) if abs(each - middle) < timedelta(hours=12)]
    assert [f"{each:%H:%M %Z}" for each in near] == [begins]
