"""Every error says what was expected, what was found and how to mend it, and survives a process border."""

from __future__ import annotations

import pickle
import re

import pytest

from regiolect import errors


def tree(kind: type[errors.RegiolectError]) -> list[type[errors.RegiolectError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]


@pytest.mark.parametrize("kind", tree(errors.RegiolectError), ids=lambda kind: kind.__name__)
def test_an_error_comes_out_of_another_process_as_it_went_in(kind: type[errors.RegiolectError]) -> None:
    # Prefect and process pools pickle exceptions themselves; ours must survive it.
    error = pickle.loads(pickle.dumps(kind("a", "b", "c")))  # noqa: S301
    assert type(error) is kind
    assert (error.expected, error.found, error.remedy) == ("a", "b", "c")
    assert str(error) == "expected a; found b. Remedy: c"


def test_the_drawing_at_the_top_of_the_file_is_the_tree() -> None:
    drawn = set(re.findall(r"[A-Z]\w+(?=\s|$)", (errors.__doc__ or "").split("\n\n")[1]))
    assert {kind.__name__ for kind in tree(errors.RegiolectError)} <= drawn


def test_wrong_requests_have_their_own_exit_code() -> None:
    assert errors.UnknownRegion("a", "b", "c").exit_code == 2
    assert errors.BuildFailed("a", "b", "c").exit_code == 1
