"""Classes of arithmetic that a target takes, as a policy states them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from regiolect.contracts import Arithmetic
from regiolect.errors import InvalidPolicy, PolicyLoosens
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.policy.difference import differences

CPU: dict[str, Any] = {"name": "cpu", "backend": "openvino"}


def policy(folder: Path, region: str = "eu", **stated: Any) -> PolicyBook:
    fields = {
        "region": region,
        "title": "Europe",
        "reason": "A policy that exists for the purpose of a test.",
        "precision": "INT8",
        "accuracy": {"metric": "accuracy", "limit": 1.0},
        "targets": [CPU],
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{region}.yaml").write_text(yaml.safe_dump({**fields, **stated}))
    return PolicyBook(folder)


def test_classes_are_stated_by_name_and_are_part_of_the_digest(tmp_path: Path) -> None:
    any_class = policy(tmp_path / "any").load("eu")
    two = policy(tmp_path / "two", targets=[{**CPU, "arithmetic": ["vnni", "amx"]}]).load("eu")
    assert two.targets[0].arithmetic == (Arithmetic.VNNI, Arithmetic.AMX)
    assert two.targets[0].described() == "openvino (arithmetic: vnni amx)"
    assert two.digest() != any_class.digest()
    assert RegionPolicy.model_validate_json(two.canonical()) == two


def test_a_policy_that_states_none_keeps_its_digest(tmp_path: Path) -> None:
    assert b"arithmetic" not in policy(tmp_path / "any").load("eu").canonical()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ({**CPU, "arithmetic": ["vnnni"]}, "did you mean 'vnni'"),
        ({**CPU, "arithmetic": ["avx2"]}, "avx2"),
        ({**CPU, "arithmetic": ["amx", "amx"]}, "cpu lists a class of arithmetic twice"),
        ({"name": "gpu", "backend": "tensorrt-rtx", "arithmetic": ["amx"]}, "arithmetic for backend tensorrt-rtx"),
        ({"name": "gpu", "backend": "onnxruntime-cuda", "arithmetic": ["amx"]}, "arithmetic for backend onnxruntime"),
    ],
    ids=["misspelt", "a flag", "twice", "plan", "gpu"],
)
def test_what_is_no_class_of_the_backends_is_refused(tmp_path: Path, target: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policy(tmp_path / "policies", targets=[target]).load("eu")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "loosens"), [(["vnni"], False), (["amx", "vnni"], False), (["vnni", "saturating"], True), ([], True)]
)
def test_a_child_takes_no_class_that_its_parent_does_not(tmp_path: Path, classes: list[str], loosens: bool) -> None:
    policy(tmp_path / "policies", targets=[{**CPU, "arithmetic": ["vnni", "amx"]}])
    book = policy(tmp_path / "policies", "fr", extends="eu", targets=[{**CPU, "arithmetic": classes}])
    if loosens:
        with pytest.raises(PolicyLoosens, match=r"cpu takes arithmetic .*, not only vnni amx"):
            book.load("fr")
    else:
        assert [each.value for each in book.load("fr").targets[0].arithmetic] == classes


def test_a_difference_names_the_classes(tmp_path: Path) -> None:
    old = policy(tmp_path / "old", targets=[{**CPU, "arithmetic": ["vnni"]}])
    new = policy(tmp_path / "new", targets=[{**CPU, "arithmetic": ["vnni", "amx"]}])
    (change,) = differences(old, new, ["eu"])
    (field,) = change.fields
    assert (field.key, field.old, field.new) == (
        "targets.cpu",
        "openvino (arithmetic: vnni)",
        "openvino (arithmetic: vnni amx)",
    )
