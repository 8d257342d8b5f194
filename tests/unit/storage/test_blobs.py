"""What a record names must all be there before the record counts: no blob may be overlooked, however deep it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from regiolect.contracts import Blob, Contract, Decision, NamedBlob
from regiolect.integrity import digest_bytes
from regiolect.storage import blobs_of


def blob(name: str) -> Blob:
    return Blob(uri=f"file:///{name}", digest=digest_bytes(name.encode()), size=1)


def found_in(document: object) -> Iterator[str]:
    """Digests of everything in a JSON document that has a blob's fields."""
    if isinstance(document, dict):
        if set(document) == set(Blob.model_fields):
            yield document["digest"]
        for value in document.values():
            yield from found_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from found_in(value)


@pytest.mark.parametrize("decision", list(Decision))
def test_every_blob_of_an_outcome_is_found(bundles, decision: Decision) -> None:
    outcome = bundles.outcome(bundles.artifact(), decision)
    found = [each.digest for each in blobs_of(outcome)]
    assert sorted(found) == sorted(found_in(outcome.model_dump(mode="json")))
    assert len(found) == (0 if decision is Decision.REFUSED else 4)


class Tree(Contract):
    """Wherever a field can hide one."""

    leaf: Blob | None = None
    files: tuple[NamedBlob, ...] = ()
    by_name: Mapping[str, Blob] = {}
    branches: tuple[Tree, ...] = ()
    parts: tuple[tuple[str, Contract], ...] = ()
    numbers: tuple[float, ...] = ()


def test_no_depth_and_no_kind_of_field_hides_one() -> None:
    inner = Tree(leaf=blob("a"), files=(NamedBlob(path="x", blob=blob("b")),), by_name={"c": blob("c")})
    tree = Tree(
        branches=(Tree(branches=(inner,)),), parts=(("d", NamedBlob(path="d", blob=blob("d"))),), numbers=(1.0,)
    )
    assert {each.uri[-1] for each in blobs_of(tree)} == set("abcd")
