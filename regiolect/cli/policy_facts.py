"""What `regiolect policies` tells of a folder of policies, as data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from regiolect.contracts import Contract, Digest, Failure, RegionId, failure_of
from regiolect.errors import PolicyError, RegiolectError
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.policy.clock_changes import unclear_times
from regiolect.policy.mistakes import Mistake


class ListedPolicy(Contract):
    """One region's policy, or why it is unusable."""

    region: RegionId
    digest: Digest | None = None
    policy: RegionPolicy | None = None
    failure: Failure | None = None


class PolicyListing(Contract):
    """A folder's policies, by region."""

    format: Literal[1] = 1
    folder: str
    policies: tuple[ListedPolicy, ...]


class FoundMistake(Contract):
    """One mistake in a policy file."""

    kind: str
    place: str
    key: str
    expected: str
    found: str
    remedy: str


class CheckedPolicy(Contract):
    """What is wrong with one region's policy.

    digest, precision: None where it is unusable.
    waits_for: policies that it extends and that are to be mended, where nothing is to be mended in itself.
    notes: what is worth knowing of a policy that is valid.
    """

    region: RegionId
    digest: Digest | None = None
    precision: str | None = None
    mistakes: tuple[FoundMistake, ...] = ()
    waits_for: tuple[RegionId, ...] = ()
    notes: tuple[str, ...] = ()


class PolicyCheck(Contract):
    """What is wrong with a folder's policies, by region."""

    format: Literal[1] = 1
    folder: str
    policies: tuple[CheckedPolicy, ...]

    @property
    def unusable(self) -> tuple[str, ...]:
        """Regions whose policy cannot be used."""
        return tuple(policy.region for policy in self.policies if policy.digest is None)


def listing_of(book: PolicyBook) -> PolicyListing:
    """Every policy of a folder."""
    return PolicyListing(folder=str(book.folder), policies=tuple(_listed(book, region) for region in book.regions()))


def _listed(book: PolicyBook, region: str) -> ListedPolicy:
    try:
        policy = book.load(region)
    except RegiolectError as error:
        return ListedPolicy(region=region, failure=failure_of(error))
    return ListedPolicy(region=region, digest=policy.digest(), policy=policy)


def check_of(book: PolicyBook) -> PolicyCheck:
    """Every policy's verdict, and every mistake once."""
    found = book.all_mistakes()
    policies = []
    for region, mistakes in found.items():
        told = tuple(map(_mistake, mistakes))
        try:
            policy = book.load(region)
        except PolicyError:
            extended = book.lineage(region)[1:] if not mistakes else ()
            awaited = tuple(each for each in extended if found[each])
            policies.append(CheckedPolicy(region=region, mistakes=told, waits_for=awaited))
        else:
            notes = tuple(unclear_times(policy.nightly, datetime.now(UTC)))
            valid = {"digest": policy.digest(), "precision": policy.precision, "notes": notes}
            policies.append(CheckedPolicy(region=region, mistakes=told, **valid))
    return PolicyCheck(folder=str(book.folder), policies=tuple(policies))


def _mistake(mistake: Mistake) -> FoundMistake:
    return FoundMistake(
        kind=mistake.error.__name__,
        place=mistake.place,
        key=mistake.key,
        expected=mistake.expected,
        found=mistake.found,
        remedy=mistake.mend,
    )
