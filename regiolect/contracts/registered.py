"""What a registry tells of the versions in it, for people: tags are signed by nobody, but for what a promotion says."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, PositiveInt

from regiolect.contracts.base import Contract


class RegisteredTarget(Contract):
    """One target's engine in a version. Losses and limit are in `unit`; None where a tag does not tell."""

    target: str
    arithmetic: str | None
    backend: str
    precision: str
    executed: str
    build_key: str
    decision: str
    loss: float | None
    loss_upper: float | None
    limit: float | None
    unit: str

    @property
    def place(self) -> str:
        """As `BuildRequest.place`."""
        return f"{self.target} ({self.arithmetic})" if self.arithmetic else self.target


class RegisteredVersion(Contract):
    """A version of a registered model.

    champion: a release or a person made it champion, by a promotion that counts here, and it is that still.
    promoted, signed_by: when, and by whose key; None where no promotion is kept, as of versions that were champion.
    promoted_by, because: the person who promoted it, and the reason; None: a release did, or nobody.
    held: why a release held it back; None: none did, or somebody promoted it since.
    """

    name: str
    version: PositiveInt
    uri: str
    model: str | None
    region: str | None
    registered: AwareDatetime
    aliases: tuple[str, ...]
    champion: bool
    promoted: AwareDatetime | None = None
    signed_by: str | None = None
    promoted_by: str | None = None
    because: str | None = None
    held: str | None = None
    policy: str | None
    bundle: str | None
    engines: tuple[RegisteredTarget, ...]


class ListedModel(Contract):
    """What one model has registered in one region.

    policy: whether the region's policy of today is the one that the champion was approved under.
    """

    name: str
    model: str | None
    region: str | None
    champion: RegisteredVersion | None
    challenger: RegisteredVersion | None
    policy: Literal["same", "changed", "unusable", "none"] | None


class RegistryListing(Contract):
    """All that a registry holds of Regiolect's, by registered name."""

    format: Literal[1] = 1
    registry: str
    models: tuple[ListedModel, ...]
