"""`tuning`, and `repair.minutes`, in a policy: asked for or left out, within the build's deadline, and neither stricter
nor looser."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.errors import InvalidPolicy
from regiolect.policy import PolicyBook
from regiolect.policy.difference import differences, worded

PLAIN = """
region: north
title: The North
reason: A policy for the purpose of a test.
precision: FP32
accuracy: {metric: accuracy, limit: 0.5}
targets: [{name: cpu, backend: openvino}]
"""


def book(folder: Path, more: str = "", **children: str) -> PolicyBook:
    folder.mkdir()
    (folder / "north.yaml").write_text(PLAIN + more)
    for name, text in children.items():
        (folder / f"{name}.yaml").write_text(f"region: {name}\nextends: north\n{text}")
    return PolicyBook(folder)


def test_a_policy_that_does_not_state_it_is_what_it_always_was(tmp_path: Path) -> None:
    policy = book(tmp_path / "a").load("north")
    assert policy.tuning is None and policy.repair.minutes is None
    assert "tuning" not in policy.demands() and "minutes" not in policy.demands()["repair"]
    assert policy.stage_minutes() == 0


def test_stating_it_changes_the_policy_and_neither_tightens_nor_loosens_it(tmp_path: Path) -> None:
    old, new = book(tmp_path / "a"), book(tmp_path / "b", "tuning: {minutes: 5}\n")
    (change,) = differences(old, new, ["north"])
    assert change.old_policy != change.new_policy
    assert [(field.key, field.direction) for field in change.fields] == [("tuning.minutes", "changes")] or [
        (field.key, field.direction) for field in change.fields
    ] == [("tuning", "changes")]
    assert worded("tuning", None) == "engines run as they come"
    limited = book(tmp_path / "c", "tuning: {minutes: 5}\nrepair: {minutes: 15}\n")
    (change,) = differences(new, limited, ["north"])
    assert [(field.key, field.direction) for field in change.fields] == [("repair.minutes", "changes")]
    assert (worded("repair.minutes", None), limited.load("north").stage_minutes()) == ("no limit", 15)


def test_a_child_inherits_it_and_may_have_its_own(tmp_path: Path) -> None:
    found = book(tmp_path / "a", "tuning: {minutes: 5}\n", east="", west="tuning: {minutes: 9}\n")
    minutes = {region: rules.minutes for region in ("east", "west") if (rules := found.load(region).tuning)}
    assert minutes == {"east": 5, "west": 9}


@pytest.mark.parametrize(
    "more",
    [
        "tuning: {minutes: 0}\n",
        "tuning: {}\n",
        "tuning: {minutes: 240}\n",
        "repair: {minutes: 0}\n",
        "repair: {minutes: 240}\n",
    ],
)
def test_no_time_and_more_time_than_a_build_has_are_mistakes(more: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=more.partition(":")[0]):
        book(tmp_path / "a", more).load("north")
