"""Digests and canonical JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from regiolect.contracts import OperatingPoint
from regiolect.integrity import atomic_file, canonical_json, digest_bytes, digest_file, digest_of, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(), VALUES))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert digest_of(value) == digest_of(dict(reversed(list(value.items()))))


@given(a=VALUES, b=VALUES)
def test_different_values_have_different_digests(a: object, b: object) -> None:
    assert (digest_of(a) == digest_of(b)) == (canonical_json(a) == canonical_json(b))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_have_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of({"loss": value})


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert digest_file(tmp_path / "file") == digest_bytes(b"x" * 3_000_000)


def test_an_old_file_survives_a_write_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with atomic_file(path) as temporary:
            temporary.write_bytes(b"ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "9" * 5_000, '"\\ud800"', "NaN", "[Infinity]", '{"a": 1,}', "", '"\\udc00a"'],
    ids=lambda text: text[:8],
)
def test_json_that_no_program_of_ours_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text.encode())


@pytest.mark.parametrize("size", ["1e999", "NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5_000])
def test_a_contract_has_no_number_that_is_not_finite(size: str) -> None:
    given = {"batch": 1, "configuration": {}, "at_once": 1, "p50_ms": 1.0, "p99_ms": 1.0, "throughput": 1.0}
    assert OperatingPoint.model_validate(given).p50_ms == 1.0
    text = json.dumps(given).replace('"p50_ms": 1.0', f'"p50_ms": {size}')
    with pytest.raises(ValidationError, match=r"finite|JSON"):
        OperatingPoint.model_validate_json(text)
