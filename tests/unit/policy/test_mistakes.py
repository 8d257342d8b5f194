"""Every mistake in a set of policy files is named at once, each with its file, line, key and nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.cli.policy_facts import check_of
from regiolect.cli.tables import print_policy_check
from regiolect.errors import InvalidPolicy, PolicyCycle, PolicyError, PolicyLoosens, PolicyTooNew
from regiolect.policy import PolicyBook
from regiolect.policy.mistakes import nearest
from regiolect.policy.places import policies_at

REASON = "reason: A policy for trying out what is told of mistakes."
GOOD = f"""region: good
title: Good
{REASON}
precision: FP16
accuracy: {{metric: accuracy, limit: 0.5}}
targets: [{{name: cpu-x86, backend: openvino}}]
"""
BASE = f"""region: base
title: Base
{REASON}
precision: int8
accuracy: {{metric: accuracy, limit: yes}}
acuracy: {{}}
targets:
  - {{name: cpu-x86, backend: openvin}}
  - {{name: cpu-x86, backend: onnxruntime, colour: red}}
samples:
  gate: 2000
  gate: 3000
latency: {{p99_ms: .inf}}
limit: 0.5
"""
KID = """region: kid
title: no
reason: short
extends: bse
precision: FP16
forbidden: [FP16]
repair: {fallback: [INT8]}
samples: {gate: "4000"}
shapes:
  batch: {min: 1, opt: 2, max: 4}
  width: {min: 48, opt: 2, max: 4}
"""
LOOSE = f"""region: loose
title: Loose
{REASON}
extends: good
precison: INT8
accuracy:
  limit: 0.9
  confidence: 0.9
samples: {{gate: 10}}
"""
# Each of nine lines stands for nine times as many values as the one before.
ALIASES = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def told(folder: Path, region: str, text: str) -> list[tuple[int | None, str, str | None]]:
    """Line, key and nearest name of every mistake that is found in a region's file."""
    (folder / f"{region}.yaml").write_text(text)
    mistakes = PolicyBook(folder).mistakes(region)
    assert all(mistake.file == str(folder / f"{region}.yaml") for mistake in mistakes)
    return [(mistake.line, mistake.key, mistake.near) for mistake in mistakes]


def test_no_mistake_of_a_file_hides_another(folder: Path) -> None:
    assert told(folder, "base", BASE) == [
        (4, "precision", "INT8"),
        (5, "accuracy.limit", None),
        (6, "acuracy", "accuracy"),
        (7, "targets", None),
        (8, "targets.0.backend", "openvino"),
        (9, "targets.1.colour", None),
        (12, "samples.gate", None),
        (13, "latency.p99_ms", None),
        (14, "limit", "accuracy.limit"),
    ]


def test_a_file_whose_parent_is_missing_is_still_looked_at(folder: Path) -> None:
    (folder / "base.yaml").write_text(GOOD.replace("good", "base"))
    assert told(folder, "kid", KID) == [
        (2, "title", None),
        (3, "reason", None),
        (4, "extends", "base"),
        (5, "precision", None),
        (7, "repair.fallback", None),
        (8, "samples.gate", None),
        (10, "shapes.batch", None),
        (11, "shapes.width", None),
    ]


def test_what_a_child_loosens_is_told_line_by_line_beside_its_other_mistakes(folder: Path) -> None:
    assert told(folder, "loose", LOOSE) == [
        (5, "precison", "precision"),
        (7, "accuracy.limit", None),
        (8, "accuracy.confidence", None),
        (9, "samples.gate", None),
    ]
    kinds = [mistake.error for mistake in PolicyBook(folder).mistakes("loose")]
    assert kinds == [InvalidPolicy, *[PolicyLoosens] * 3]


def test_a_child_is_not_blamed_for_its_parent_but_neither_of_them_can_be_used(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE)
    assert told(folder, "kid", f"region: kid\ntitle: Kid\n{REASON}\nextends: base\nforbiden: [BF16]\n") == [
        (5, "forbiden", "forbidden")
    ]
    assert told(folder, "grandchild", f"region: grandchild\ntitle: Grand\n{REASON}\nextends: kid\n") == []
    with pytest.raises(InvalidPolicy) as refused:
        PolicyBook(folder).load("grandchild")
    for place in (f"{folder}/kid.yaml:5", f"{folder}/base.yaml:4", f"{folder}/base.yaml:14"):
        assert place in refused.value.found


def test_mistakes_of_several_files_are_told_in_one_error(folder: Path) -> None:
    for region, text in (("base", BASE), ("kid", KID), ("loose", LOOSE)):
        (folder / f"{region}.yaml").write_text(text)
    (folder / "newer.yaml").write_text("format: 2\n")
    (folder / "broken.yaml").write_text("region: broken\n  bad: [\n")
    with pytest.raises(InvalidPolicy) as refused:
        PolicyBook(folder).all()
    for place in ("base.yaml:14: ", "kid.yaml:11: ", "loose.yaml:9: ", "newer.yaml:1: ", "broken.yaml:2: "):
        assert f"{folder}/{place}" in refused.value.found
    assert "(did you mean 'accuracy.limit'?)" in refused.value.found
    assert refused.value.remedy == "mend them, then: regiolect policies validate"


def test_mistakes_of_one_kind_are_raised_as_that_kind(folder: Path) -> None:
    (folder / "loose.yaml").write_text(LOOSE.replace("precison: INT8\n", ""))
    with pytest.raises(PolicyLoosens, match=r"line 6: accuracy\.limit.*; line 8: samples"):
        PolicyBook(folder).all()
    (folder / "loose.yaml").write_text("format: 9\n")
    with pytest.raises(PolicyTooNew):
        PolicyBook(folder).all()


def test_each_file_of_a_cycle_says_so_and_what_leads_into_it_only_waits(folder: Path) -> None:
    for region, parent in (("a", "b"), ("b", "a"), ("into", "a")):
        (folder / f"{region}.yaml").write_text(
            f"region: {region}\ntitle: {region.title()}\n{REASON}\nextends: {parent}\n"
        )
    book = PolicyBook(folder)
    assert [(m.error, m.line, m.key) for m in book.mistakes("a")] == [(PolicyCycle, 4, "extends")]
    assert book.mistakes("into") == ()
    with pytest.raises(PolicyCycle, match="a -> b -> a"):
        book.load("into")


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("a: &x [*x]\n", 1, "contains itself"),
        ("region: x\n---\nregion: y\n", 2, "another document"),
        ("region: x\n? [1, 2]\n: 3\n", 2, "a key that is no text"),
        ("region: [\n", 2, "expected the node content"),
        ("- a\n", 1, "a list"),
        ("", 1, "nothing"),
        (f"{GOOD}extends: !!float ''\n", 7, "the tag !!float"),
        (f"--- !!set\n{GOOD}", 1, "the tag !!set"),
        (f"{GOOD}extends: !!python/name:os.system x\n", 7, "only plain values are read"),
        (f'{GOOD}extends: "\\ud800"\n', 7, "the character U+D800"),
        (f'{GOOD}extends: "\\0"\n', 7, "the character U+0000"),
        (f"{GOOD}extends: \x07\n", 7, "the character U+0007"),
        (ALIASES, 5, "more than 10,000 values"),
        ("a: " + "[" * 100_000, 1, "more than 50 levels deep"),
        ("a: *b\n", 1, "undefined alias"),
        (f"{GOOD}extends: {'x' * 30_000_000}\n", None, "30,000,"),
        (f"{GOOD}extends: {'x' * 300_000}\n", 1, "300,"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(
    folder: Path, text: str, line: int | None, found: str
) -> None:
    (folder / "odd.yaml").write_text(text)
    (mistake,) = PolicyBook(folder).mistakes("odd")
    assert mistake.line == line
    assert found in mistake.found


@pytest.mark.parametrize(
    ("stated", "key"),
    [
        ("title: 2024-13-45", None),
        ("title: !!str no", None),
        ("title: 1:00:00:00.0" + ":00" * 200, None),
        ("accuracy: {metric: accuracy, limit: 5e-1}", None),
        ("accuracy: {metric: accuracy, limit: 5E+0}", None),
        ("accuracy: {metric: accuracy, limit: 1:30}", "accuracy.limit"),
        ("accuracy: {metric: accuracy, limit: 0x_}", "accuracy.limit"),
        (f"accuracy: {{metric: accuracy, limit: 0x{'f' * 4_000}}}", "accuracy.limit"),
        (f"latency: {{p99_ms: {'9' * 400}}}", "latency.p99_ms"),
        ("latency: {p99_ms: 1e999}", "latency.p99_ms"),
        (f"samples: {{gate: {1 << 63}}}", "samples.gate"),
        (f"samples: {{gate: {(1 << 63) - 1}}}", None),
        ("samples: {gate: 2_000}", None),
        ("calibration: {max_age_days: 1e300}", "calibration.max_age_days"),
        ("nightly: {deadline_minutes: 1e300}", "nightly.deadline_minutes"),
        ("approval: {wait_minutes: 1e300}", "approval.wait_minutes"),
        ("tuning: {minutes: 1e12}", "tuning.minutes"),
    ],
)
def test_a_value_is_what_it_looks_like_or_its_field_is_told(folder: Path, stated: str, key: str | None) -> None:
    others = [line for line in GOOD.splitlines() if not line.startswith(stated.partition(":")[0])]
    found = told(folder, "good", "\n".join([*others, stated]))
    assert found == ([] if key is None else [(len(others) + 1, key, None)])


def test_a_region_that_looks_like_a_date_is_told_with_its_line(folder: Path) -> None:
    found = told(folder, "good", GOOD.replace("region: good", "region: 2024-13-45"))
    assert set(found) == {(1, "region", None)}


def test_a_number_with_an_exponent_alone_is_a_number(folder: Path) -> None:
    (folder / "good.yaml").write_text(GOOD.replace("limit: 0.5", "limit: 5e-1"))
    assert PolicyBook(folder).load("good").accuracy.limit == 0.5


def test_a_file_in_another_encoding_is_told_with_the_line_of_its_first_byte(folder: Path) -> None:
    (folder / "good.yaml").write_bytes(GOOD.replace("Good", "Größe").encode("latin-1"))
    (mistake,) = PolicyBook(folder).mistakes("good")
    assert (mistake.line, "save the file as UTF-8" in mistake.found) == (2, True)
    assert "in UTF-8" in mistake.expected
    (folder / "good.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert PolicyBook(folder).load("good").title == "Good"


def test_a_file_that_is_named_yml_is_read_and_mistakes_of_it_name_it(folder: Path) -> None:
    (folder / "other.yml").write_text(GOOD.replace("good", "other").replace("Good", "Other"))
    book = PolicyBook(folder)
    assert [policy.title for policy in book.all()] == ["Good", "Other"]
    (folder / "other.yml").write_text(GOOD)
    (mistake,) = PolicyBook(folder).mistakes("other")
    assert mistake.place == f"{folder}/other.yml:1"


def test_two_files_of_one_region_are_refused_by_name_and_neither_is_taken(folder: Path) -> None:
    (folder / "good.yml").write_text(GOOD.replace("limit: 0.5", "limit: 5"))
    (folder / "heir.yml").write_text(f"region: heir\ntitle: Heir\n{REASON}\nextends: good\n")
    book = PolicyBook(folder)
    assert book.regions() == ("good", "heir")
    for region in book.regions():
        with pytest.raises(
            InvalidPolicy, match=r"'good' in one file; found good\.yaml and good\.yml\. Remedy: .*remove"
        ):
            book.load(region)
    with policies_at(str(folder / "heir.yml"), None) as place, pytest.raises(InvalidPolicy, match=r"good\.yml"):
        place.book.load("heir")
    with policies_at(str(folder / "good.yml"), None) as place:
        assert place.book.load("good").accuracy.limit == 5


def test_what_is_told_of_a_long_value_is_short(folder: Path) -> None:
    (folder / "good.yaml").write_text(GOOD.replace("limit: 0.5", f"limit: {'x' * 100_000}"))
    (mistake,) = PolicyBook(folder).mistakes("good")
    assert len(mistake.found) < 300


def test_words_that_yaml_takes_for_something_else_are_told_to_be_quoted(folder: Path) -> None:
    (folder / "no.yaml").write_text(GOOD.replace("region: good", "region: no"))
    with pytest.raises(InvalidPolicy, match="write a text in quotes"):
        PolicyBook(folder).load("no")
    (folder / "no.yaml").write_text(GOOD.replace("region: good", "region: 'no'"))
    assert PolicyBook(folder).load("no").region == "no"


@pytest.mark.parametrize("stated", ["limit: yes", "limit: '0.5'", "limit: .nan", "limit: -.inf", "limit: [0.5]"])
def test_what_is_no_number_is_never_taken_for_a_limit(folder: Path, stated: str) -> None:
    (mistake, *others) = told(folder, "good", GOOD.replace("limit: 0.5", stated))
    assert mistake[:2] == (5, "accuracy.limit")
    assert {key for _, key, _ in others} <= {"accuracy.limit"}


def test_validate_prints_a_block_for_each_mistake_and_a_line_for_each_file_without(folder: Path, capsys) -> None:
    (folder / "base.yaml").write_text(BASE)
    (folder / "heir.yaml").write_text(f"region: heir\ntitle: Heir\n{REASON}\nextends: base\n")
    print_policy_check(check := check_of(PolicyBook(folder)))
    assert check.unusable
    said = capsys.readouterr()
    assert said.err == "", "a mistake and a verdict are told on one stream, in the order of the files"
    lines = said.out.splitlines()
    assert lines[:5] == [
        "InvalidPolicy",
        f"  at        {folder}/base.yaml:4 precision",
        f"  expected  a valid policy in {folder}/base.yaml",
        "  found     precision: Input should be 'FP32', 'FP16' or 'INT8', found 'int8'",
        "  remedy    did you mean 'INT8'?",
    ]
    assert said.out.count("  at        ") == 9
    assert lines[-3].startswith("good: valid, FP16, sha256:")
    assert lines[-2] == "heir: waits for base, which it extends"
    assert lines[-1] == "9 mistakes in 1 of 3 files; 1 other waits for these"


def test_validate_counts_files_without_a_mistake(folder: Path, capsys) -> None:
    print_policy_check(check := check_of(PolicyBook(folder)))
    assert not check.unusable
    assert capsys.readouterr().out.splitlines()[-1] == "1 file, no mistake"
    (folder / "heir.yaml").write_text(f"region: heir\ntitle: Heir\n{REASON}\nextends: good\n")
    print_policy_check(check := check_of(PolicyBook(folder)))
    assert not check.unusable
    assert capsys.readouterr().out.splitlines()[-1] == "2 files, no mistake"


def test_a_cycle_is_one_mistake_however_many_files_it_goes_through(folder: Path, capsys) -> None:
    for region, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("x", "y"), ("y", "x")):
        text = f"region: {region}\ntitle: Round\n{REASON}\nextends: {parent}\n"
        (folder / f"{region}.yaml").write_text(text)
    print_policy_check(check := check_of(PolicyBook(folder)))
    assert check.unusable
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("  found")] == [
        "  found     a -> b -> c -> a",
        "  found     x -> y -> x",
    ]
    assert [line for line in lines if "wait" in line] == [
        "b: waits for a, which it extends",
        "c: waits for a, which it extends",
        "d: waits for a, which it extends",
        "y: waits for x, which it extends",
        "2 mistakes in 2 of 7 files; 4 others wait for these",
    ]
    with pytest.raises(PolicyError) as refused:
        PolicyBook(folder).all()
    assert refused.value.found.count("a -> b -> c -> a") == 1
    assert "b -> c -> a -> b" not in refused.value.found


def test_a_region_is_never_inherited(folder: Path) -> None:
    assert told(folder, "heir", f"title: Heir\n{REASON}\nextends: good\n") == [(None, "region", None)]


def test_a_field_is_looked_for_at_its_place_first(folder: Path) -> None:
    assert told(folder, "good", GOOD + "batch: {mim: 1}\nshapes: {width: {mim: 1, opt: 2, max: 3}}\n")[0] == (
        7,
        "batch.mim",
        "min",
    )
    assert nearest("Int8", ["FP32", "INT8"]) == "INT8"


LINES = st.sampled_from([line for text in (BASE, KID, LOOSE, GOOD) for line in text.splitlines()])


@given(lines=st.lists(LINES, max_size=12))
def test_whatever_a_file_holds_is_either_used_or_told(tmp_path_factory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "good.yaml").write_text(GOOD)
    (folder / "any.yaml").write_text("\n".join(lines))
    book = PolicyBook(folder)
    mistakes = book.mistakes("any")
    if not mistakes:
        assert book.load("any").region == "any"
        return
    with pytest.raises(PolicyError) as refused:
        book.load("any")
    assert all(mistake.found in refused.value.found for mistake in mistakes)
