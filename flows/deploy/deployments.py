"""The one list of what runs where: work pools, their queues, and the deployments in them, made from the policies.

Plain data: nothing here needs Prefect. `flows.deploy.pools` puts it on a server; `prefect_yaml` writes it for
Prefect's own `prefect deploy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import yaml

from regiolect import __version__
from regiolect.errors import InvalidPolicy, InvalidSetting
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.settings import Settings

CONTROL = "control"
# Where runs of `control` in containers find the key that they sign with, and the secret or volume that holds it.
SIGNING, SIGNING_SECRET = "/signing", "regiolect-signing"
# By which variable of a pool's template a run gets it.
_KEY_HOLDERS = {"docker": "signing_volume", "kubernetes": "signing_secret"}
INTERACTIVE = "interactive"
NIGHTLY = "nightly"
# By this tag a deployment is known as one of this list, also after its region or target is gone from the policies, and
# a run as one that tells every HEARTBEAT_SECONDS that it lives.
TAG = "regiolect"
FLOWS = ("audit", "build-region", "nightly", "release", "tune")
# Prefect's least. A run is told from a dead one by it: see `flows.deploy.pools`.
HEARTBEAT_SECONDS = 30

# What a process pool's worker starts its runs with. Docker and Kubernetes pools need an image as well.
PoolType = Literal["process", "docker", "kubernetes"]


@dataclass(frozen=True)
class Queue:
    """A queue of every pool; the lower its priority's number, the sooner its runs start."""

    name: str
    priority: int
    description: str


QUEUES = (
    Queue(INTERACTIVE, 1, "Runs that people started: they come first."),
    Queue(NIGHTLY, 10, "Runs of the nightly schedule: they wait for people's."),
)


@dataclass(frozen=True)
class Pool:
    """A work pool with all QUEUES: `control`, or the one of a target, by whose name it goes."""

    name: str
    description: str


@dataclass(frozen=True)
class Schedule:
    """When a deployment runs by itself. `slug` tells it from schedules that people add."""

    cron: str
    timezone: str
    slug: str = NIGHTLY


@dataclass(frozen=True)
class Deployment:
    """A flow in a pool. `collision` says what becomes of a run while another one of the same deployment is active."""

    flow: str
    name: str
    entrypoint: str
    pool: str
    description: str
    queue: str = INTERACTIVE
    tags: tuple[str, ...] = (TAG,)
    region: str | None = None
    gpu: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule | None = None
    collision: Literal["ENQUEUE", "CANCEL_NEW"] | None = None
    version: str = __version__

    @property
    def full_name(self) -> str:
        """As Prefect addresses it: flow/name."""
        return f"{self.flow}/{self.name}"

    def job_variables(self, pool_type: str, settings: Settings) -> dict[str, Any]:
        """What a worker of such a pool needs to start this deployment's runs.

        Raises:
            InvalidSetting: the pool's runs are containers, and no image is set.
        """
        environment = {
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            # What the command line prints as progress, a run on a server shows in its log.
            "PREFECT_LOGGING_EXTRA_LOGGERS": "regiolect",
        }
        if pool_type in _KEY_HOLDERS:
            # Builds run what is served beside what is new, and open nothing that no trusted key signed.
            environment["REGIOLECT_TRUST"] = f"{SIGNING}/trust.json"
        if pool_type in _KEY_HOLDERS and self.pool == CONTROL:
            # A key that a run makes for itself would be gone with its container, so it is named and must be there.
            environment["REGIOLECT_SIGNING_KEY"] = f"{SIGNING}/signing-key.pem"
        variables: dict[str, Any] = {"env": environment}
        if pool_type in ("docker", "kubernetes"):
            variables["image"] = self._image(pool_type, settings)
        if pool_type == "docker" and self.gpu:
            variables["device_requests"] = [{"Count": 1, "Capabilities": [["gpu"]]}]
        if pool_type == "kubernetes":
            # A region's own account reaches that region's bucket and key alone.
            account = self.region if self.pool != CONTROL else CONTROL
            variables["service_account_name"] = f"regiolect-{account}"
            variables["gpus"] = int(self.gpu)
        if pool_type in _KEY_HOLDERS and self.pool == CONTROL:
            variables[_KEY_HOLDERS[pool_type]] = SIGNING_SECRET
        if pool_type == "kubernetes" and self.gpu:
            # Nodes with GPUs are kept free of everything that does not ask for one.
            variables["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        return variables

    def _image(self, pool_type: str, settings: Settings) -> str:
        image = (settings.image_gpu or settings.image) if self.gpu else settings.image
        if not image:
            raise InvalidSetting(
                expected=f"the image of the workers' runs in REGIOLECT_IMAGE, for the {pool_type} pool {self.pool!r}",
                found="nothing",
                remedy="export REGIOLECT_IMAGE=<image built from infra/docker, with its tag or digest>",
            )
        return image


def is_gpu(target: str) -> bool:
    """Whether a target is a GPU, which its name says: `gpu-t4`."""
    return target.partition("-")[0] == "gpu"


def pools(book: PolicyBook) -> tuple[Pool, ...]:
    """`control`, where flows run that wait for others, and one pool per target of the policies.

    A parent so never occupies the place that its child waits for.

    Raises:
        InvalidPolicy: a target is named `control`.
        PolicyError: a policy is unusable.
    """
    targets = sorted({target.name for policy in book.all() for target in policy.targets})
    if CONTROL in targets:
        raise InvalidPolicy(
            expected=f"targets of the policies in {book.folder} with names of their own",
            found=f"a target named {CONTROL!r}, as the pool of the flows that wait for targets",
            remedy="give the target another name, e.g. cpu-x86",
        )
    return (
        Pool(CONTROL, "Releases and nightlies: they plan, wait for the builds, and register. Any machine will do."),
        *(Pool(name, f"Builds for {name}. Its workers sit on machines of that kind.") for name in targets),
    )


def deployments(book: PolicyBook) -> tuple[Deployment, ...]:
    """Every deployment: the release that people start, the daily audit, a nightly per region, a build and a tuning per
    region and target.

    Raises:
        InvalidPolicy: two builds would have the same name.
        PolicyError: a policy is unusable.
    """
    policies = book.all()
    builds = [build for policy in policies for build in _builds(policy)]
    _require_names(builds, book)
    tunings = [tuning for policy in policies for tuning in _tunings(policy)]
    return (_release(), _audit(), *(_nightly(policy) for policy in policies), *builds, *tunings)


def _release() -> Deployment:
    return Deployment(
        flow="release",
        name="release",
        entrypoint="flows.release.release",
        pool=CONTROL,
        description="Release a model: build what changed, judge every engine, register what was approved, report. "
        "Choose the model; leave regions and targets empty for all of them.",
    )


def _audit() -> Deployment:
    return Deployment(
        flow="audit",
        name="audit",
        entrypoint="flows.audit.audit",
        pool=CONTROL,
        description="Hold every engine that consumers can load against its own bytes, results and signatures, and "
        "today's policies and keys. Fails if anything speaks against one; the artifact `audit` says what.",
        schedule=Schedule("0 6 * * *", "UTC", slug="daily"),
        collision="CANCEL_NEW",
    )


def _nightly(policy: RegionPolicy) -> Deployment:
    rules = policy.nightly
    return Deployment(
        flow="nightly",
        name=policy.region,
        entrypoint="flows.nightly.nightly",
        pool=CONTROL,
        queue=NIGHTLY,
        description=f"{policy.title}, by itself (cron {rules.cron}, {rules.timezone}): release whatever changed in any "
        "model, and send a digest. While one runs, another is not started.",
        tags=(TAG, f"region:{policy.region}"),
        region=policy.region,
        parameters={"regions": [policy.region]},
        schedule=Schedule(rules.cron, rules.timezone),
        collision="CANCEL_NEW",
    )


def _builds(policy: RegionPolicy) -> Iterator[Deployment]:
    for target in policy.targets:
        gpu = is_gpu(target.name)
        yield Deployment(
            flow="build-region",
            name=f"{policy.region}-{target.name}",
            entrypoint="flows.build_region.build_region",
            pool=target.name,
            description=f"Build and judge one engine: {policy.title}, {policy.precision}, {target.backend} on "
            f"{target.name}. Releases start it; to start one yourself, run release/release for this region and target.",
            tags=(TAG, f"region:{policy.region}", policy.precision.value, target.name, *(("gpu",) if gpu else ())),
            region=policy.region,
            gpu=gpu,
            # A second build of the same waits, and then finds that there is nothing left to do.
            collision="ENQUEUE",
        )


def _tunings(policy: RegionPolicy) -> Iterator[Deployment]:
    for build in _builds(policy):
        yield replace(
            build,
            flow="tune",
            entrypoint="flows.tune_on_target.tune",
            description=f"Tune an approved engine where it runs: {policy.title} on {build.pool}. The next release "
            "publishes what comes of it. Choose the model; leave region and target as they are.",
            parameters={"region": policy.region, "target": build.pool},
        )


def _require_names(builds: list[Deployment], book: PolicyBook) -> None:
    by_name: dict[str, Deployment] = {}
    for build in builds:
        other = by_name.setdefault(build.name, build)
        if other is not build:
            raise InvalidPolicy(
                expected=f"every region and target of {book.folder} to give a name of its own, <region>-<target>",
                found=f"{build.name!r} of {other.region} on {other.pool} and of {build.region} on {build.pool}",
                remedy="rename one of these targets",
            )


HEADER = """\
# Written by `regiolect pools write` from region_policies/ and flows/deploy/deployments.py: change those instead.
# For process pools that exist (`regiolect pools apply` makes them, and deploys to Docker and Kubernetes pools as well):
#   prefect --no-prompt deploy --all --prefect-file infra/prefect.yaml
"""


def prefect_yaml(book: PolicyBook, settings: Settings) -> str:
    """The list as `prefect deploy` reads it, for process pools."""
    content = {
        "name": TAG,
        # The code is installed where workers run: there is nothing to fetch.
        "pull": [],
        "deployments": [_entry(deployment, settings) for deployment in deployments(book)],
    }
    return HEADER + yaml.dump(content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


def _entry(deployment: Deployment, settings: Settings) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": deployment.name,
        "version": deployment.version,
        "entrypoint": deployment.entrypoint,
        "description": deployment.description,
        "tags": list(deployment.tags),
        "parameters": dict(deployment.parameters),
        "enforce_parameter_schema": True,
        "work_pool": {
            "name": deployment.pool,
            "work_queue_name": deployment.queue,
            "job_variables": deployment.job_variables("process", settings),
        },
    }
    if deployment.collision is not None:
        entry["concurrency_limit"] = {"limit": 1, "collision_strategy": deployment.collision}
    if deployment.schedule is not None:
        schedule = deployment.schedule
        entry["schedules"] = [{"cron": schedule.cron, "timezone": schedule.timezone, "slug": schedule.slug}]
    return entry


class _Plain(yaml.SafeDumper):
    """YAML without references to earlier values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
