"""The base of the tree. The tree: `regiolect.errors`."""

from __future__ import annotations

from regiolect.errors.redaction import redacted, shortened


class RegiolectError(Exception):
    """Base of the tree. Secrets of addresses are left out of what it says, and what is too long to be read.

    Args:
        expected: what would have been right.
        found: what was there instead.
        remedy: what to do or type next.
    """

    exit_code = 1

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        # Errors are printed, logged and kept in reports and records.
        self.expected, self.found, self.remedy = map(redacted, map(shortened, (expected, found, remedy)))
        super().__init__(f"expected {self.expected}; found {self.found}. Remedy: {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (workers, Prefect states); subclasses may have other constructors.
        return (_rebuild, (type(self), self.expected, self.found, self.remedy))


def _rebuild(kind: type[RegiolectError], expected: str, found: str, remedy: str) -> RegiolectError:
    error = kind.__new__(kind)
    RegiolectError.__init__(error, expected, found, remedy)
    return error
