"""Where people release models: the Prefect server of these tests, and what is released there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.flows.tiny_models import ADDRESS
from tests.patience import PATIENCE

FASHION = "examples.fashion:MODEL"
# The region that asks a person.
GUARDED = "de"


@dataclass(frozen=True)
class Office:
    """A server, and a model that is released there.

    api: of the Prefect server, whose pages lie beside it.
    login: user and password for it, with a colon between them.
    home: REGIOLECT_HOME of the worker.
    model, regions: what is released.
    """

    api: str
    login: str
    home: Path
    model: str
    regions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's, in names of engines."""
        return "tiny" if self.model == ADDRESS else "fashion"

    @property
    def site(self) -> str:
        return self.api.removesuffix("/api")

    def ask(self, path: str) -> Any:
        return self._told(httpx.get(f"{self.api}{path}", auth=self._auth, trust_env=False, timeout=PATIENCE))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._told(
            httpx.post(f"{self.api}{path}", json=body, auth=self._auth, trust_env=False, timeout=PATIENCE)
        )

    @property
    def _auth(self) -> tuple[str, str]:
        user, _, password = self.login.partition(":")
        return user, password

    def start_release(self) -> str:
        """Start a release of `model` for `regions`; its flow run's id."""
        deployment = self.ask("/deployments/name/release/release")["id"]
        parameters = {"model": self.model, "regions": self.regions}
        return str(self.post(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    def wait_until_paused(self, run: str, seconds: float) -> None:
        """Wait until a child of that run waits for a person."""
        wanted = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
        deadline = time.monotonic() + seconds
        while not self.post("/flow_runs/filter", wanted):
            state = self.ask(f"/flow_runs/{run}")["state"]
            assert state["type"] not in ("COMPLETED", "FAILED", "CRASHED"), state
            assert time.monotonic() < deadline, f"nobody was asked within {seconds:g} s; the release is {state['name']}"
            time.sleep(1.0)

    @staticmethod
    def _told(response: httpx.Response) -> Any:
        response.raise_for_status()
        return response.json()
