"""Options of targets: each backend's own, every mistake with its place, and part of what an engine is."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.errors import InvalidPolicy
from regiolect.policy import PolicyBook
from regiolect.policy.difference import differences

POLICY = """\
region: xx
title: Somewhere
reason: A policy that is there to be wrong in its targets.
precision: FP16
accuracy: {metric: accuracy, limit: 1.0}
targets:
  - name: gpu
    backend: BACKEND
    options:
      OPTION
"""


def written(folder: Path, backend: str, option: str) -> PolicyBook:
    folder.mkdir(exist_ok=True)
    (folder / "xx.yaml").write_text(POLICY.replace("BACKEND", backend).replace("OPTION", option))
    return PolicyBook(folder)


@pytest.mark.parametrize(
    ("backend", "option"),
    [
        ("tensorrt", "builder_optimization_level: 5"),
        ("tensorrt", "hardware_compatibility: ampere_plus"),
        ("tensorrt", "version_compatible: true"),
        ("tensorrt", "refittable: true"),
        ("tensorrt-rtx", "compute_capabilities: [SM75, SM89]"),
        ("tensorrt-rtx", "workspace_mib: 512"),
        ("tensorrt-rtx", "max_aux_streams: 0"),
        ("tensorrt", "max_aux_streams: 2"),
    ],
)
def test_options_of_the_backend_are_taken(backend: str, option: str, tmp_path: Path) -> None:
    (target,) = written(tmp_path, backend, option).load("xx").targets
    assert list(target.options) == [option.partition(":")[0]]
    assert option.partition(":")[0] in target.described()


@pytest.mark.parametrize(
    ("backend", "option", "key", "found"),
    [
        ("tensorrt", "builder_optimization_level: 6", "builder_optimization_level", "less than or equal to 5, found 6"),
        ("tensorrt", "version_compatible: 1", "version_compatible", "valid boolean, found 1"),
        ("tensorrt", "hardware_compatibility: turing", "hardware_compatibility", "found 'turing'"),
        ("tensorrt-rtx", "compute_capabilities: [SM90]", "compute_capabilities", "found 'SM90'"),
        ("tensorrt-rtx", "compute_capabilities: []", "compute_capabilities", "at least 1 item"),
        ("tensorrt-rtx", "compute_capabilities: [SM89, SM89]", "compute_capabilities", "each compute capability once"),
        ("tensorrt-rtx", "workspace_mib: 0", "workspace_mib", "greater than 0, found 0"),
        ("tensorrt", "max_aux_streams: -1", "max_aux_streams", "greater than or equal to 0, found -1"),
        ("openvino", "streams: 4", "streams", "unknown option 'streams'"),
    ],
)
def test_a_wrong_option_is_told_with_its_place(backend: str, option: str, key: str, found: str, tmp_path: Path) -> None:
    book = written(tmp_path, backend, option)
    (mistake,) = book.mistakes("xx")
    assert (mistake.line, mistake.key) == (10, f"targets.0.options.{key}")
    assert found in mistake.found
    with pytest.raises(InvalidPolicy, match=f"options of {backend}"):
        book.load("xx")


def test_a_misspelt_option_is_answered_with_the_nearest_and_another_backends_is_refused(tmp_path: Path) -> None:
    (mistake,) = written(tmp_path, "tensorrt", "builder_optimisation_level: 5").mistakes("xx")
    assert mistake.mend == "did you mean 'builder_optimization_level'?"
    (mistake,) = written(tmp_path, "tensorrt-rtx", "builder_optimization_level: 5").mistakes("xx")
    assert "unknown option" in mistake.found
    assert "compute_capabilities, max_aux_streams, workspace_mib" in mistake.expected


def test_an_option_changes_the_policys_digest_and_none_leaves_it_as_it_was(tmp_path: Path) -> None:
    one = written(tmp_path / "one", "tensorrt", "builder_optimization_level: 5").load("xx")
    other = written(tmp_path / "other", "tensorrt", "builder_optimization_level: 4").load("xx")
    bare = one.model_copy(update={"targets": tuple(each.model_copy(update={"options": {}}) for each in one.targets)})
    assert len({one.digest(), other.digest(), bare.digest()}) == 3
    assert b"options" not in bare.canonical()


def test_a_difference_of_policies_names_the_option(tmp_path: Path) -> None:
    old = written(tmp_path / "old", "tensorrt", "builder_optimization_level: 3")
    new = written(tmp_path / "new", "tensorrt", "builder_optimization_level: 5")
    ((change,),) = (each.fields for each in differences(old, new, ["xx"]))
    assert (change.key, change.old, change.new) == (
        "targets.gpu",
        "tensorrt (builder_optimization_level: 3)",
        "tensorrt (builder_optimization_level: 5)",
    )
