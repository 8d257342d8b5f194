"""Stores, the registry, servers and the orchestrator. The tree: `regiolect.errors`."""

from __future__ import annotations

from regiolect.errors.base import RegiolectError


class StorageError(RegiolectError):
    """The artifact store cannot be read or written."""


class ContentMissing(StorageError):
    """The store has no content of that digest."""


class ForeignStore(StorageError):
    """The store belongs to another of our regions, or its bucket lies in another AWS region."""


class StoreUnreachable(StorageError):
    """Nothing answers at the store's endpoint, or what answers is not S3."""


class StoreAccessRefused(StorageError):
    """There are no credentials for the store, or it refuses them."""


class NoSuchBucket(StorageError):
    """The store's bucket does not exist."""


class ClockOff(StorageError):
    """This machine's clock differs too much from the store's."""


class StoreFull(StorageError):
    """The store has no room for more content."""


class RegistryError(RegiolectError):
    """MLflow cannot be reached, read or written."""


class Busy(RegiolectError):
    """Another process had what this one needs for longer than this one waits."""


class ServerFailed(RegiolectError):
    """A server of this machine's own set (`regiolect up`) did not start, or died."""


class OrchestratorError(RegiolectError):
    """Prefect cannot be started or reached."""


class NoDeployment(OrchestratorError):
    """The server knows no deployment for a region's target."""


class NoWorker(OrchestratorError):
    """No worker of the target's pool took the build in time."""


class DeadlineExceeded(OrchestratorError):
    """A build took longer than its region's policy allows."""


class RunLost(OrchestratorError):
    """A worker died, or its run was stopped, before it answered."""


class OtherVersion(OrchestratorError):
    """A worker runs another version of Regiolect than the release that sent it work."""


class RegistrationBusy(OrchestratorError):
    """Another run is registering under the same name, or died doing so."""


class ApprovalMissing(OrchestratorError):
    """A person said no, or nobody answered in time."""
