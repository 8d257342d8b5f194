"""What was asked for, demanded or handed in is wrong. The tree: `regiolect.errors`."""

from __future__ import annotations

from typing import Any

from regiolect.errors.base import RegiolectError


class UsageError(RegiolectError):
    exit_code = 2


class UnknownRegion(UsageError):
    """No policy has that name."""


class UnknownTarget(UsageError):
    """No policy of the release names that target."""


class UnknownModel(UsageError):
    """No ModelSpec is found under that name."""


class UnknownBackend(UsageError):
    """The catalog lists no backend of that name."""


class InvalidModelSpec(UsageError):
    """The name leads to something that is not a usable ModelSpec."""


class InvalidSetting(UsageError):
    """An environment variable or option has an unusable value."""


class UnusableFile(RegiolectError, OSError):
    """What lies at a file's place is no regular file, or larger than such a file may be. Nothing of it was read.

    An OSError as well: who tells of files that cannot be read tells of these in the same way.
    """

    exit_code = 2

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(expected, found, remedy)
        self.strerror = found

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.expected, self.found, self.remedy))


class PolicyError(RegiolectError):
    exit_code = 2


class InvalidPolicy(PolicyError):
    """A policy file does not validate."""


class PolicyTooNew(PolicyError):
    """A policy file is of a format that only a newer Regiolect reads."""


class PolicyCycle(PolicyError):
    """`extends` leads back to itself."""


class PolicyLoosens(PolicyError):
    """A child policy allows what its parent forbids."""


class MissingProfile(PolicyError):
    """A policy gives no bounds for a dimension that a model leaves open."""


class PlanError(RegiolectError):
    """A release cannot go by a plan that was kept."""


class InvalidPlan(PlanError):
    """The file is no plan, or one of a format that this Regiolect does not read."""

    exit_code = 2


class OutdatedPlan(PlanError):
    """A release would do something else now than what was planned."""


class DataError(RegiolectError):
    """A region's data cannot be used."""


class InvalidSamples(DataError):
    """Wrong dtype or shape, or values that are not finite."""


class EmptyDataset(DataError):
    """A set has no samples."""


class TooFewSamples(DataError):
    """A set is smaller than what is asked of it."""


class ForeignSamples(DataError):
    """Samples belong to another region, or to another set than the one asked for."""


class ChangedMeanwhile(DataError):
    """Model, data or metric changed between the plan and the build."""


class DataCheckFailed(DataError):
    """An expectation on the data was not met.

    Attributes:
        checks: every contracts.CheckResult of the region, passed and failed; empty where none was run.
    """

    checks: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"checks": self.checks})
