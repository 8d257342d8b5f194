"""Releases that meet a fault at an exact point. Runs in processes of its own: see yard.py."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regiolect.servers.local import LocalServers

# Where a stage ends, in the order in which a release passes these points. A Prefect task is hit in its body, so that
# the orchestrator does not know yet that the stage is over. Tuning, where the policy asks for it, is also hit in the
# middle, once its journal is kept.
BORDERS = {
    "planned": ("tasks.plan", "plan"),
    "exported": ("tasks.export", "export"),
    "ingested": ("tasks.validate", "ingest_data"),
    "validated": ("tasks.validate", "validate_data"),
    "observed": ("tasks.calibrate", "observe_region"),
    "graph chosen": ("tasks.choose", "choose"),
    "built": ("tasks.build", "build"),
    "attested": ("tasks.build", "attest_engine"),
    "measured once": ("regiolect.tune.run", "keep"),
    "tuned": ("tasks.tune", "tune_engine"),
    "evaluated": ("tasks.evaluate", "evaluate"),
    "gated": ("tasks.evaluate", "gate"),
    "outcome kept": ("regiolect.planning.kept", "keep"),
    "bundle written": ("regiolect.release.publish", "write_bundle"),
    "run uploaded": ("regiolect.registry.versions", "Versions._upload"),
    "version made": ("regiolect.registry.versions", "Versions._new_version"),
    "aliases moved": ("regiolect.registry", "Registry.register"),
    "registered": ("tasks.publish", "publish"),
    "report written": ("tasks.report", "write_report"),
    "report logged": ("tasks.report", "log_report"),
}
# Of a tuning: enough for an answer; that it is a good one is not what these tests are about.
PASSES = 6


def release_with_fault(address: str, border: str | None, victim: str | None, servers: Path, log: Path) -> None:
    """Release a model; at the end of the stage `border`, kill `victim`: `flow` is this process, others are servers.

    S3 and MLflow stay down until the release has ended; Prefect and PostgreSQL lose their process and come up again.

    What every stage did is appended to `log`, a line each, so that one that ran twice is seen.
    """
    # Faults are put into this process, so that all stages must run in it.
    os.environ["REGIOLECT_ISOLATION"] = "off"
    sys.stderr = log.with_suffix(".err").open("a")
    os.dup2(sys.stderr.fileno(), 2)
    for name, place in BORDERS.items():
        fault = functools.partial(_kill, str(victim), servers) if name == border else None
        _watch(place, name, log, fault)
    from flows.release import release
    from regiolect.tune import run

    run.MOST_PASSES = PASSES
    result = release(address)
    sys.exit(0 if all(row.model_uri for row in result.rows) else 1)


def _kill(victim: str, servers: Path) -> None:
    if victim == "flow":
        os.kill(os.getpid(), signal.SIGKILL)
    LocalServers(servers).kill(victim)
    if victim in ("prefect", "postgres"):
        # Without these a flow waits for minutes before it gives up: somebody brings them up again, as a service would.
        LocalServers(servers).start(victim)


def _watch(place: tuple[str, str], name: str, log: Path, fault: Callable[[], None] | None) -> None:
    module, path = place
    *parents, attribute = path.split(".")
    owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
    found = getattr(owner, attribute)
    is_task = hasattr(found, "fn")
    original = found.fn if is_task else found

    @functools.wraps(original)
    def watched(*args: Any, **how: Any) -> Any:
        result = original(*args, **how)
        with log.open("a") as lines:
            lines.write(f"{name}\n")
        if fault is not None:
            fault()
        return result

    if is_task:
        found.fn = watched
    else:
        setattr(owner, attribute, watched)
