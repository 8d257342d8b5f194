"""What a machine of a target is told to do: all of it in one record, which is the parameter of a flow run.

It comes from whoever may start runs on the server, so a machine takes nothing in it for true that it can find out:
`on_this_machine` and `require_planned` hold the request against this machine's code, libraries, model and data, and
against the policy and target that it names itself.
"""

from __future__ import annotations

from pydantic import Field

from regiolect.contracts import Contract, ExportedModel
from regiolect.planning.request import RegionRequest


class BuildOrder(Contract):
    """One engine to be built."""

    request: RegionRequest = Field(description="what was planned")
    exported: ExportedModel = Field(description="the model, its graph in the store")
    force: bool = Field(default=False, description="build again what is finished")


class TuneOrder(Contract):
    """One approved engine to be tuned."""

    request: RegionRequest = Field(description="what was planned")
    minutes: float = Field(description="how long measuring may take, in all runs that go on from one journal")
    force: bool = Field(default=False, description="measure anew")
