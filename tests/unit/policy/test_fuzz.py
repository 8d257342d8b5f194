"""Whatever is done to a policy file, it ends in a policy or in an error that says where: never in anything else."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from regiolect.errors import PolicyError
from regiolect.policy import PolicyBook, builtin_policies

pytestmark = pytest.mark.slow

REAL = {path.stem: path.read_text() for path in sorted(builtin_policies().glob("*.yaml"))}
# What YAML and JSON read as something else than it looks like, or cannot hold.
ODD = [
    "!!float ''", "!!int ''", "!!bool abc", "!!set", "!!timestamp abc", "!!binary x", "!!omap []", "!x y", "! z",
    "!!str", "1:00:00:00.0" + ":00" * 200, "-1:1", "0x" + "f" * 4_000, "9" * 400, "9" * 5_000, "-" + "9" * 5_000,
    "1e999", "-1e999", "5e-1", "0b_", "0x_", "._", ".5_", "08", "0o7", ".inf", "-.Inf", ".nan", "~", "null", "yes",
    "=", "<<", "*a", "&a", "&a x", "2024-01-01", "2024-13-45", "2024-01-01 00:00:00", '"\\ud800"', '"\\0"',
    '"\\e[31m"', "'", '"', "|", ">-", "? ", "- ", "[", "]", "{", "}", "[[[[[[[[" * 20, "{a: " * 60, "[]", "{}",
    "[1, {}]", "{<<: {}}", "{<<: 3}", "<<: *a", "---", "...", "%YAML 9.9", "%TAG ! x", "#", ":", "\t", "\r",
    "\x00", "\x1b", "\x85", "\u2028", "\ufeff", "\ufffe", "\U0001f600", "é", "*/9999999999 * * * *", "0 0 31 2 *",
    "1-99999999999 * * * *", "@reboot", "../../etc/passwd", "Asia", "x" * 10_000, "\nextends: eu",
    "\nextends: extends", "\nextends: [eu]", "\nextends: {}", "\nformat: 2", "\nformat: 1.0", "\nformat: x",
    "\nregion: 5", "\ntargets: {}", "\ntargets: [1]", "\ntargets: [[]]", "\nnightly: x", "\nshapes: {batch: 1}",
    "\naccuracy: []", "\naccuracy: {slices: {by: [a], expected: {b: [c]}}}", "\nspeed: {}",
    "\nrepair: {fallback: [INT8, x]}", "\nbatch: {min: -1}", "a/" * 1_000, f"\nextends: {'x' * 200_000}",
    f"\nnightly: {{timezone: {'a/' * 1_000}b}}",
]  # fmt: skip

# What ended in a stack trace, without end or without a line before it was refused.
KEPT = [
    "title: !!float ''",
    "title: !!bool abc",
    "title: !!int ''",
    "title: !!timestamp abc",
    "title: !!set",
    f"title: 1:00:00:00.0{':00' * 200}",
    'title: "\\ud800"',
    f"accuracy: {{limit: 0x{'f' * 4_000}}}",
    f"accuracy: {{limit: {'9' * 5_000}}}",
    f"latency: {{p99_ms: {'9' * 400}}}",
    f"latency: {{p99_ms: {'[' * 2_000}}}",
    f"extends: {'9' * 1_000}",
    f"extends: {'x' * 200_000}",
    f"{'x' * 200_000}: 1",
    f"nightly: {{timezone: {'a/' * 1_000}b}}",
    "precision: &a [*a]",
    "<<:\n  width: {min: 48, opt: 256, max: 512}",
    "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9)),
]


def mutated(random_: random.Random) -> tuple[str, bytes]:
    """A region, and its policy with one to four things done to it."""
    region = random_.choice(list(REAL))
    text = REAL[region]
    for _ in range(random_.randint(1, 4)):
        words = [*re.finditer(r"[^\s,:{}\[\]]+", text)]
        word = random_.choice(words) if words else re.match("", text)
        assert word is not None
        place, other = random_.randrange(len(text) + 1), random_.choice(list(REAL.values()))
        how = random_.randrange(8)
        if how < 3:
            text = text[: word.start()] + random_.choice(ODD) + text[word.end() :]
        elif how == 3:
            text = text[:place] + random_.choice(ODD) + text[place:]
        elif how == 4:
            text = text[:place] + text[place + random_.randint(1, 40) :]
        elif how == 5:
            line = random_.choice(other.splitlines(keepends=True))
            text = text[:place] + line + text[place:]
        elif how == 6:
            text = text.replace(word.group(), random_.choice(re.findall(r"\S+", other)))
        else:
            text = text[:place] + chr(random_.randrange(0x300)) + text[place:]
    data = bytearray(text.encode(random_.choice(["utf-8"] * 8 + ["latin-1", "utf-16"]), "replace"))
    if random_.random() < 0.1 and data:
        data[random_.randrange(len(data))] = random_.randrange(256)
    return region, bytes(data)


def outcome(folder: Path, region: str, data: bytes) -> str:
    """How a file ends as the policy of a region: loaded, or refused; asserts that a refusal says where."""
    path = folder / f"{region}.yaml"
    path.write_bytes(data)
    book = PolicyBook(folder)
    try:
        policy = book.load(region)
    except PolicyError as error:
        refused = error
    else:
        # What is demanded reads back as the same.
        assert type(policy).model_validate_json(policy.model_dump_json()) == policy
        assert policy.digest()
        return "loaded"
    for mistake in book.mistakes(region):
        assert mistake.line is not None or mistake.found.endswith("is missing"), mistake
        assert 0 < len(mistake.found) < 2_000 and len(str(mistake)) < 6_000
        assert mistake.found in refused.found
        # It is printed, logged and kept.
        assert str(mistake).encode()
    return "refused"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("policies")
    for path in builtin_policies().glob("*.yaml"):
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.mark.timeout(30)
@pytest.mark.parametrize("stated", KEPT, ids=range(len(KEPT)))
def test_what_was_once_wrong_with_a_file_is_refused_with_its_line(folder: Path, stated: str) -> None:
    key = stated.partition(":")[0]
    others = [line for line in REAL["eu"].splitlines() if not line.startswith(f"{key}:")]
    ended = outcome(folder, "eu", "\n".join([*others, stated]).encode())
    (folder / "eu.yaml").write_text(REAL["eu"])
    assert ended == ("loaded" if stated.startswith("title: 1:00") else "refused")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cases", [1_000, pytest.param(3_000, marks=pytest.mark.acceptance)])
def test_a_mutated_policy_is_loaded_or_refused_with_its_line(folder: Path, cases: int) -> None:
    counts = {"loaded": 0, "refused": 0}
    for seed in range(cases):
        region, data = mutated(random.Random(seed))  # noqa: S311
        try:
            counts[outcome(folder, region, data)] += 1
            (folder / f"{region}.yaml").write_text(REAL[region])
        except Exception as error:
            error.add_note(f"seed {seed}: {data[:2_000]!r}")
            raise
    # A fuzz that only ever breaks the file, or never does, tries nothing.
    assert min(counts.values()) > cases / 20, counts
