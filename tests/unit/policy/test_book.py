"""Region policies: what a compliance officer writes, and what mistakes are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regiolect.contracts import DEFAULT_METHOD, Execution, Precision, Split, TensorSpec
from regiolect.errors import InvalidPolicy, MissingProfile, PolicyCycle, PolicyLoosens, UnknownRegion
from regiolect.policy import PolicyBook, builtin_policies, write_schema

PARENT = """
region: parent
title: Parent
reason: The parent of every policy in this test folder.
precision: FP16
forbidden: [INT8]
accuracy: {metric: accuracy, limit: 0.5}
latency: {p99_ms: 50}
calibration: {max_age_days: 90}
repair: {fallback: [], least_speedup: 1.2}
targets:
  - {name: cpu-x86, backend: openvino}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parent.yaml").write_text(PARENT)
    return tmp_path


def child(folder: Path, text: str, name: str = "child") -> PolicyBook:
    reason = "reason: Extends its parent for the purpose of a test."
    (folder / f"{name}.yaml").write_text(f"region: {name}\ntitle: Child\n{reason}\n{text}")
    return PolicyBook(folder)


def test_a_child_inherits_what_it_does_not_state(folder: Path) -> None:
    policy = child(folder, "extends: parent\naccuracy: {limit: 0.1}").load("child")
    assert policy.accuracy.limit == 0.1
    assert policy.accuracy.metric == "accuracy"
    assert policy.precision is Precision.FP16
    assert policy.forbidden == (Execution.INT8,)


@pytest.mark.parametrize(
    ("loosening", "named"),
    [
        ("precision: INT8\nforbidden: []", "precision INT8, coarser than FP16"),
        ("forbidden: []", "forbidden no longer lists INT8"),
        ("accuracy: {limit: 0.6}", "accuracy.limit 0.6 above 0.5"),
        ("accuracy: {confidence: 0.9}", "accuracy.confidence 0.9 below 0.95"),
        ("accuracy: {unit: relative_percent}", "accuracy.unit differs"),
        ("latency: {p99_ms: 60}", "latency.p99_ms 60, above 50"),
        ("latency: null", "latency.p99_ms none, above 50"),
        ("samples: {gate: 10}", "samples.gate 10 below 2000"),
        ("calibration: {max_age_days: 91}", "calibration.max_age_days 91, above 90"),
        ("calibration: {max_age_days: null}", "calibration.max_age_days none, above 90"),
        ("calibration: {method: percentile}", f"calibration.method percentile instead of {DEFAULT_METHOD}"),
        ("repair: {fallback: [FP32]}", "repair.fallback allows FP32"),
        ("repair: {least_speedup: 1.1}", "repair.least_speedup 1.1 below 1.2"),
    ],
)
def test_a_child_that_loosens_its_parent_is_refused_by_field(folder: Path, loosening: str, named: str) -> None:
    with pytest.raises(PolicyLoosens) as caught:
        child(folder, f"extends: parent\n{loosening}").load("child")
    assert named in caught.value.found


def test_a_cycle_is_named_link_by_link(folder: Path) -> None:
    child(folder, "extends: b", "a")
    child(folder, "extends: c", "b")
    with pytest.raises(PolicyCycle, match="a -> b -> c -> a"):
        child(folder, "extends: a", "c").load("a")


def test_a_policy_that_extends_itself_is_a_cycle(folder: Path) -> None:
    with pytest.raises(PolicyCycle, match="self -> self"):
        child(folder, "extends: self", "self").load("self")


def test_every_mistake_of_a_file_is_named_at_once_with_the_nearest_field(folder: Path) -> None:
    (folder / "parent.yaml").write_text(PARENT.replace("limit:", "limt:").replace("precision: FP16", "precision: FP12"))
    with pytest.raises(InvalidPolicy) as caught:
        PolicyBook(folder).load("parent")
    assert "did you mean 'limit'?" in caught.value.found
    assert "'accuracy.limit' is missing" in caught.value.found
    assert "FP12" in caught.value.found


def test_an_unknown_region_is_answered_with_the_nearest_one(folder: Path) -> None:
    with pytest.raises(UnknownRegion, match="did you mean 'parent'"):
        PolicyBook(folder).load("parnt")


def test_where_policies_were_forgotten_the_remedy_says_what_to_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Near enough to be taken for one of the built-in ones, if there were no folder that has it.
    (folder / "mine").mkdir()
    (folder / "mine" / "jap.yaml").write_text(PARENT)
    monkeypatch.chdir(folder)
    with pytest.raises(UnknownRegion, match=r'--policies mine; for all commands policies = "mine" in regiolect\.toml'):
        PolicyBook().load("jap")
    with pytest.raises(UnknownRegion, match="--policies FOLDER"):
        PolicyBook().load("somewhere")
    with pytest.raises(InvalidPolicy, match=r"found no folder.*--policies FOLDER.*regiolect policies copy FOLDER"):
        PolicyBook(folder / "none")


def test_an_unknown_parent_names_the_child(folder: Path) -> None:
    with pytest.raises(InvalidPolicy, match=r"extends: nobody.*child\.yaml"):
        child(folder, "extends: nobody").load("child")


def test_a_key_stated_twice_is_refused_with_its_line(folder: Path) -> None:
    (folder / "parent.yaml").write_text(PARENT + "accuracy: {metric: accuracy, limit: 50}\n")
    with pytest.raises(InvalidPolicy, match=r"'accuracy' is stated twice.*line \d+"):
        PolicyBook(folder).load("parent")


def test_an_unknown_backend_is_answered_with_the_nearest_one(folder: Path) -> None:
    (folder / "parent.yaml").write_text(PARENT.replace("backend: openvino", "backend: openvin"))
    with pytest.raises(InvalidPolicy, match="did you mean 'openvino'"):
        PolicyBook(folder).load("parent")


def test_a_limit_on_latency_stays_a_limit_on_the_same_measurement(folder: Path) -> None:
    for change in ("performance: throughput", "batch: {opt: 1}", "batch: {buckets: [64]}"):
        with pytest.raises(PolicyLoosens, match="measured on something else"):
            child(folder, f"extends: parent\n{change}").load("child")


@pytest.mark.parametrize("text", ["{", "- a list", "", "\xff"])
def test_a_file_that_is_no_policy_is_refused(folder: Path, text: str) -> None:
    (folder / "bad.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidPolicy, match=r"bad\.yaml"):
        PolicyBook(folder).load("bad")


def test_a_file_named_after_another_region_is_refused(folder: Path) -> None:
    (folder / "other.yaml").write_text(PARENT)
    with pytest.raises(InvalidPolicy, match="region: other"):
        PolicyBook(folder).load("other")


def test_a_precision_cannot_be_required_and_forbidden(folder: Path) -> None:
    with pytest.raises(InvalidPolicy, match="also listed in `forbidden`"):
        child(folder, "extends: parent\nforbidden: [INT8, FP16]").load("child")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=r"no \.yaml or \.yml file"):
        PolicyBook(tmp_path)


def test_the_digest_follows_the_meaning_and_not_the_file(folder: Path) -> None:
    before = PolicyBook(folder).load("parent").digest()
    (folder / "parent.yaml").write_text("# a comment\n" + PARENT)
    assert PolicyBook(folder).load("parent").digest() == before
    (folder / "parent.yaml").write_text(PARENT.replace("0.5", "0.4"))
    assert PolicyBook(folder).load("parent").digest() != before


def test_a_change_of_the_parent_changes_the_childs_digest(folder: Path) -> None:
    book = child(folder, "extends: parent")
    before = book.load("child").digest()
    (folder / "parent.yaml").write_text(PARENT.replace("p99_ms: 50", "p99_ms: 40"))
    assert book.load("child").digest() == before, "one plan, one policy: whoever changes a file meanwhile"
    assert PolicyBook(folder).load("child").digest() != before


def test_the_shipped_schema_is_the_one_that_the_code_generates(tmp_path: Path) -> None:
    write_schema(tmp_path / "schema.json")
    shipped = json.loads((builtin_policies() / "schema.json").read_text())
    assert shipped == json.loads((tmp_path / "schema.json").read_text()), "run: make schema"


def test_minimum_samples_are_stated_for_each_set() -> None:
    assert PolicyBook().load("de").samples.by_split()[Split.GATE] == 3000


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("{timezone: Asia/Tokio}", "did you mean 'Asia/Tokyo'?"),
        ("{timezone: ../../etc/passwd}", "no time zone"),
        ("{cron: every night}", "no cron expression"),
        ("{cron: '0 25 * * *'}", "no cron expression"),
        ("{deadline_minutes: 0}", "nightly.deadline_minutes"),
    ],
)
def test_a_nightly_that_could_never_run_is_refused(folder: Path, stated: str, told: str) -> None:
    with pytest.raises(InvalidPolicy, match="nightly") as refused:
        child(folder, f"extends: parent\nnightly: {stated}").load("child")
    assert told in refused.value.found


def test_when_the_nightly_runs_is_no_part_of_what_an_engine_is(folder: Path) -> None:
    plain = child(folder, "extends: parent").load("child")
    scheduled = child(folder, "extends: parent\nnightly: {timezone: Asia/Tokyo, cron: '30 1 * * *'}").load("child")
    assert scheduled.nightly.timezone == "Asia/Tokyo"
    assert plain.digest() == scheduled.digest()


def test_a_child_cannot_do_without_the_approval_that_its_parent_asks_for(folder: Path) -> None:
    (folder / "parent.yaml").write_text(PARENT + "approval: {wait_minutes: 30}\n")
    assert child(folder, "extends: parent").load("child").approval is not None
    with pytest.raises(PolicyLoosens, match="approval is left out"):
        child(folder, "extends: parent\napproval: null").load("child")


def test_what_may_be_shipped_instead_is_every_wider_precision_that_is_not_forbidden(folder: Path) -> None:
    stated = "targets: [{name: cpu-x86, backend: openvino}]\naccuracy: {metric: accuracy, limit: 1.0}\nprecision: INT8"
    assert child(folder, stated).load("child").wider_precisions() == (Precision.FP16, Precision.FP32)
    book = child(folder, f"{stated}\nforbidden: [FP16]", "strict")
    assert book.load("strict").wider_precisions() == (Precision.FP32,)
    locked = child(folder, f"{stated}\nrepair: {{fallback: []}}", "locked")
    assert locked.load("locked").wider_precisions() == ()
    assert PolicyBook().load("eu").wider_precisions() == ()


@pytest.mark.parametrize(
    ("fallback", "told"),
    [("[INT8]", "not wider than precision INT8"), ("[FP16]", "also listed in `forbidden`")],
)
def test_a_fallback_that_contradicts_the_policy_is_a_mistake(folder: Path, fallback: str, told: str) -> None:
    text = "targets: [{name: cpu-x86, backend: openvino}]\naccuracy: {metric: accuracy, limit: 1.0}\nprecision: INT8\n"
    with pytest.raises(InvalidPolicy, match=told):
        child(folder, f"{text}forbidden: [FP16]\nrepair: {{fallback: {fallback}}}").load("child")


SHAPED = f"{PARENT}shapes:\n  width: {{min: 48, opt: 320, max: 640, buckets: [320, 640]}}\n"
LINE = (TensorSpec(name="x", shape=("batch", 3, 48, "width")),)


def test_a_model_gets_the_profiles_of_the_dimensions_that_it_has(folder: Path) -> None:
    (folder / "parent.yaml").write_text(SHAPED)
    policy = PolicyBook(folder).load("parent")
    assert policy.shapes_for(LINE)["width"].buckets == (320, 640)
    assert policy.shapes_for((TensorSpec(name="image", shape=("batch", 1, 28, 28)),)) == {}


@pytest.mark.parametrize(
    ("dimension", "remedy"), [("widht", "rename shapes.width to widht"), ("frames", "shapes: {frames: {min: ")]
)
def test_a_dimension_that_the_policy_leaves_open_is_named_with_the_field_to_state(
    folder: Path, dimension: str, remedy: str
) -> None:
    (folder / "parent.yaml").write_text(SHAPED)
    with pytest.raises(MissingProfile) as caught:
        PolicyBook(folder).load("parent").shapes_for((TensorSpec(name="x", shape=("batch", dimension)),))
    assert f"shapes.{dimension}" in caught.value.expected
    assert "shapes for width" in caught.value.found
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ("width: {min: 48, opt: 32, max: 640}", "min <= opt <= max"),
        ("width: {min: 48, opt: 64}", "'shapes.width.max' is missing"),
        ("width: {min: 48, opt: 64, max: 640, buckets: [320]}", "end at max=640"),
        ("width: {min: 48, opt: 64, max: 640, bukets: [640]}", "did you mean 'buckets'"),
        ("batch: {min: 1, opt: 2, max: 4}", "the batch has a field of its own"),
    ],
)
def test_a_mistaken_profile_is_told(folder: Path, shapes: str, told: str) -> None:
    (folder / "parent.yaml").write_text(f"{PARENT}shapes:\n  {shapes}\n")
    with pytest.raises(InvalidPolicy) as caught:
        PolicyBook(folder).load("parent")
    assert told in str(caught.value)


def test_a_child_may_add_a_profile_but_not_change_what_a_latency_was_promised_for(folder: Path) -> None:
    (folder / "parent.yaml").write_text(SHAPED)
    more = child(folder, "extends: parent\nshapes: {frames: {min: 1, opt: 8, max: 64}}").load("child")
    assert set(more.shapes) == {"width", "frames"}
    with pytest.raises(PolicyLoosens, match=r"shapes\.width differs"):
        child(folder, "extends: parent\nshapes: {width: {buckets: []}}", "other").load("other")
