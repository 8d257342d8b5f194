"""What differs between two sets of policies: by field, with its direction, and by whose file it comes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from regiolect.errors import InvalidPolicy, UsageError
from regiolect.policy import PolicyBook, builtin_policies
from regiolect.policy.difference import RegionChange, differences, worded
from regiolect.policy.places import policies_at

PARENT: dict[str, Any] = {
    "region": "parent",
    "title": "Parent",
    "reason": "The parent of every policy in this test.",
    "precision": "FP16",
    "forbidden": ["INT8", "BF16"],
    "accuracy": {"metric": "accuracy", "limit": 0.5},
    "latency": {"p99_ms": 50},
    "calibration": {"method": "entropy", "max_age_days": 90},
    "repair": {"fallback": [], "least_speedup": 1.2},
    "samples": {"gate": 2000},
    "shapes": {"width": {"min": 48, "opt": 320, "max": 640}},
    "approval": {"wait_minutes": 30},
    "targets": [{"name": "cpu-x86", "backend": "openvino"}, {"name": "gpu-rtx", "backend": "tensorrt-rtx"}],
}
CHILD: dict[str, Any] = {
    "region": "child",
    "title": "Child",
    "reason": "Extends its parent for the purpose of a test.",
    "extends": "parent",
    "accuracy": {"limit": 0.1},
}


def written(folder: Path, *policies: dict[str, Any]) -> PolicyBook:
    folder.mkdir(exist_ok=True)
    for policy in policies:
        (folder / f"{policy['region']}.yaml").write_text(yaml.safe_dump(policy))
    return PolicyBook(folder)


def compared(tmp_path: Path, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, RegionChange]:
    before, after = written(tmp_path / "old", *old), written(tmp_path / "new", *new)
    found = differences(before, after, {*before.regions(), *after.regions()})
    return {change.region: change for change in found}


def said(change: RegionChange) -> list[str]:
    return [
        f"{field.direction} {field.key}: {worded(field.key, field.old)} -> {worded(field.key, field.new)}"
        for field in change.fields
    ]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"precision": "FP32"}, "tightens precision: FP16 -> FP32"),
        ({"precision": "INT8", "forbidden": []}, "loosens precision: FP16 -> INT8"),
        ({"forbidden": ["INT8", "BF16", "TF32"]}, "tightens forbidden: INT8, BF16 -> INT8, BF16, TF32"),
        ({"forbidden": ["INT8"]}, "loosens forbidden: INT8, BF16 -> INT8"),
        ({"forbidden": ["INT8", "TF32"]}, "changes forbidden: INT8, BF16 -> INT8, TF32"),
        ({"accuracy": {"metric": "accuracy", "limit": 0.4}}, "tightens accuracy.limit: 0.5 -> 0.4"),
        ({"accuracy": {"metric": "accuracy", "limit": 0.6}}, "loosens accuracy.limit: 0.5 -> 0.6"),
        ({"accuracy": {"metric": "f1", "limit": 0.4}}, "changes accuracy.limit: 0.5 -> 0.4"),
        (
            {"accuracy": {"metric": "accuracy", "limit": 0.5, "confidence": 0.99}},
            "tightens accuracy.confidence: 0.95 -> 0.99",
        ),
        ({"latency": {"p99_ms": 40}}, "tightens latency.p99_ms: 50 -> 40"),
        ({"latency": None}, "loosens latency: p99_ms 50 -> no limit"),
        ({"latency": {"p99_ms": 40}, "batch": {"opt": 1}}, "changes latency.p99_ms: 50 -> 40"),
        ({"samples": {"gate": 3000}}, "tightens samples.gate: 2000 -> 3000"),
        ({"samples": {"gate": 300}}, "loosens samples.gate: 2000 -> 300"),
        (
            {"calibration": {"method": "minmax", "max_age_days": 90}},
            "changes calibration.method: entropy -> minmax",
        ),
        ({"calibration": {"max_age_days": 30}}, "tightens calibration.max_age_days: 90 -> 30"),
        ({"calibration": {}}, "loosens calibration.max_age_days: 90 -> no limit"),
        ({"repair": {"fallback": ["FP32"], "least_speedup": 1.2}}, "loosens repair.fallback: nothing -> FP32"),
        ({"repair": {"fallback": [], "least_speedup": 1.5}}, "tightens repair.least_speedup: 1.2 -> 1.5"),
        ({"repair": {"fallback": [], "least_speedup": 1.2, "steps": 3}}, "changes repair.steps: 10 -> 3"),
        ({"approval": None}, "loosens approval: wait_minutes 30 -> nobody is asked"),
        ({"approval": {"wait_minutes": 60}}, "changes approval.wait_minutes: 30 -> 60"),
        ({"targets": PARENT["targets"][:1]}, "changes targets.gpu-rtx: tensorrt-rtx -> not named"),
        ({"targets": PARENT["targets"][::-1]}, "changes targets: cpu-x86, gpu-rtx -> gpu-rtx, cpu-x86"),
        ({"shapes": {"width": {"min": 48, "opt": 320, "max": 512}}}, "changes shapes.width.max: 640 -> 512"),
        ({"shapes": {}}, "changes shapes.width: min 48, opt 320, max 640 -> none"),
        ({"performance": "throughput"}, "changes performance: latency -> throughput"),
        ({"batch": {"opt": 4}}, "changes batch.opt: 8 -> 4"),
        ({"nightly": {"timezone": "Asia/Tokyo"}}, "changes nightly.timezone: UTC -> Asia/Tokyo"),
        ({"title": "Elder"}, "changes title: Parent -> Elder"),
    ],
)
def test_a_change_is_told_by_field_with_its_direction(tmp_path: Path, stated: dict[str, Any], expected: str) -> None:
    change = compared(tmp_path, [PARENT], [PARENT | stated])["parent"]
    assert change.change == "changed"
    assert expected in said(change)


def test_every_change_is_told_and_words_and_schedule_leave_the_digest_of_the_demands_alone(tmp_path: Path) -> None:
    assert compared(tmp_path, [PARENT], [PARENT]) == {}
    for stated in ({"nightly": {"cron": "0 3 * * *"}}, {"title": "Elder"}):
        change = compared(tmp_path, [PARENT], [PARENT | stated])["parent"]
        assert change.old_policy == change.new_policy
    change = compared(tmp_path, [PARENT], [PARENT | {"samples": {"gate": 3000}}])["parent"]
    assert change.old_policy != change.new_policy


def test_what_is_inherited_is_told_for_the_region_that_inherits_it_and_names_whose_it_is(tmp_path: Path) -> None:
    stricter = PARENT | {"accuracy": {"metric": "accuracy", "limit": 0.4}, "samples": {"gate": 3000}}
    found = compared(tmp_path, [PARENT, CHILD], [stricter, CHILD])
    assert said(found["child"]) == ["tightens samples.gate: 2000 -> 3000"], "its own limit stays"
    assert [field.inherited_from for field in found["child"].fields] == ["parent"]
    assert [field.inherited_from for field in found["parent"].fields] == [None, None]


def test_a_field_that_a_region_states_no_more_is_inherited_again(tmp_path: Path) -> None:
    without = {name: value for name, value in CHILD.items() if name != "accuracy"}
    (field,) = compared(tmp_path, [PARENT, CHILD], [PARENT, without])["child"].fields
    assert (field.key, field.direction, field.inherited_from) == ("accuracy.limit", "loosens", "parent")


def test_a_default_that_comes_back_through_the_parent_names_the_parent(tmp_path: Path) -> None:
    without = {name: value for name, value in PARENT.items() if name != "approval"}
    (field,) = compared(tmp_path, [PARENT, CHILD], [without, CHILD])["child"].fields
    assert (field.key, field.inherited_from) == ("approval", "parent")


def test_regions_come_and_go(tmp_path: Path) -> None:
    found = compared(tmp_path, [PARENT], [PARENT | {"region": "other"}])
    assert {region: change.change for region, change in found.items()} == {"other": "added", "parent": "removed"}
    assert found["other"].old_policy is None and found["other"].new_policy is not None


# ------------------------------------------------------------------------------------------------------ places


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project whose policies git keeps, in two revisions."""
    folder = tmp_path / "project" / "policies"
    folder.mkdir(parents=True)

    def git(*command: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
        subprocess.run(["git", "-C", str(folder), *who, *command], check=True, capture_output=True)  # noqa: S607

    git("init", "-q")
    written(folder, PARENT, CHILD)
    git("add", "-A")
    git("commit", "-qm", "one")
    written(folder, PARENT | {"accuracy": {"metric": "accuracy", "limit": 0.3}})
    git("commit", "-qam", "two")
    return folder


def test_a_revision_is_read_as_git_keeps_it(repository: Path) -> None:
    with policies_at("HEAD~1", repository) as before, policies_at(str(repository), None) as after:
        (change,) = differences(before.book, after.book, before.book.regions())
        assert said(change) == ["tightens accuracy.limit: 0.5 -> 0.3"]


def test_mistakes_of_a_revision_name_the_revision(repository: Path) -> None:
    (repository / "child.yaml").write_text("region: [")
    subprocess.run(
        ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-qam", "bad"],  # noqa: S607
        check=True,
    )
    with policies_at("HEAD", repository) as place, pytest.raises(InvalidPolicy, match=r"HEAD:policies/child\.yaml"):
        place.book.all()


@pytest.mark.parametrize("name", ["HEAD~9", "--all", "no/such/folder", "", "HEAD:policies"])
def test_what_is_no_place_is_refused_with_what_would_be_one(repository: Path, name: str) -> None:
    with (
        pytest.raises(UsageError, match=r"a folder of policies, a policy file, or a git revision") as refused,
        policies_at(name or "\x00", repository),
    ):
        pass
    assert refused.value.exit_code == 2


def test_a_folder_that_git_does_not_keep_has_no_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(UsageError, match="not a git repository"), policies_at("HEAD", written(tmp_path, PARENT).folder):
        pass


def test_a_file_stands_for_its_region_whatever_its_name(tmp_path: Path) -> None:
    draft = tmp_path / "draft-of-germany.yaml"
    draft.write_text((builtin_policies() / "de.yaml").read_text().replace("limit: 0.1", "limit: 0.05"))
    with policies_at(str(draft), None) as place:
        assert place.region == "de"
        policy = place.book.load("de")
    assert (policy.accuracy.limit, policy.extends) == (0.05, "eu"), "what it extends is the project's"
