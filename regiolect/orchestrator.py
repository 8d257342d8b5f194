"""From the command line to the release flow.

The flow is found by name: this package may not depend on the orchestrator that runs it.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path

from regiolect.contracts import ReleaseResult
from regiolect.errors import BackendUnavailable, OrchestratorError, StorageError
from regiolect.model import load_model_spec
from regiolect.planning import plan_release
from regiolect.policy import PolicyBook
from regiolect.reachable import require_answer
from regiolect.settings import Settings

# An embedded server, its database and a small model's engines; with less, SQLite dies in the middle of a release.
_LEAST_FREE = 256 * 1024 * 1024
_PROBE_SECONDS = 5.0


def run_release(
    settings: Settings, model: str, regions: list[str] | None, *, force: bool, drills: bool
) -> ReleaseResult:
    """Run the release flow, embedded or against the server that PREFECT_API_URL names.

    Raises:
        StorageError: the home cannot be written, or its disk is full.
        BackendUnavailable: the orchestrator is not installed.
        OrchestratorError: the server does not answer, or cannot be started.
        RegiolectError: the request itself is wrong, or what stopped the release as a whole.
    """
    _require_room(settings.home)
    _require_room(Path(os.environ["PREFECT_HOME"]))
    server = os.environ.get("PREFECT_API_URL")
    if server:
        _require_server(server)
    # A wrong request is answered at once: no server is started to find it out.
    plan_release(model, load_model_spec(model), PolicyBook(settings.policies), settings.store(), regions, force)
    try:
        release = import_module("flows.release").release
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            expected="what a release needs to be installed",
            found=f"no module named {error.name!r}",
            remedy="pip install 'regiolect[release]'",
        ) from error
    try:
        result: ReleaseResult = release(model, regions=regions, force=force, drills=drills)
    except RuntimeError as error:
        # Prefect's own word for a server that did not come up; anything else that it raises is not ours to name.
        if "API" not in str(error):
            raise
        raise OrchestratorError(
            expected="an embedded Prefect server to start, or the one at PREFECT_API_URL to answer",
            found=str(error).splitlines()[0],
            remedy=f"see `prefect server start`; its folder is {os.environ['PREFECT_HOME']}",
        ) from error
    return result


def _require_room(folder: Path) -> None:
    # Made here: without its folder Prefect's embedded server dies and is restarted until its time is up.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(
            expected=f"a folder at {folder}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="mend its permissions, or choose another place with REGIOLECT_HOME",
        ) from error
    if free < _LEAST_FREE:
        raise StorageError(
            expected=f"at least {_LEAST_FREE >> 20} MiB free for {folder}",
            found=f"{free >> 20} MiB",
            remedy="free space, or choose another place with REGIOLECT_HOME",
        )


def _require_server(server: str) -> None:
    try:
        require_answer(f"{server.rstrip('/')}/health", _PROBE_SECONDS)
    except (OSError, ValueError) as error:
        raise OrchestratorError(
            expected=f"a Prefect server at PREFECT_API_URL={server}",
            found=str(error),
            remedy="start it, correct the address, or unset PREFECT_API_URL to run embedded",
        ) from error
