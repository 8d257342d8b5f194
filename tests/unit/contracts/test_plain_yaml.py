"""YAML that others wrote is read alike by both readers, within bounds, or refused by a ValueError and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from regiolect.contracts.plain_yaml import DEEPEST, MOST_BYTES, MOST_VALUES, compose, read_yaml, value_of
from regiolect.errors import IntegrityError
from regiolect.registry.beside import require_obedient

# As MLflow writes it.
DESCRIPTION = """artifact_path: model
flavors:
  python_function:
    data: data/bundle
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: regiolect.serving
    python_version: 3.11.7
mlflow_version: 3.17.2
model_size_bytes: 1234567
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 1, 28, 28]}}]'
utc_time_created: '2026-11-29 23:00:00.123456'
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, -2, 1_000, 010, 0x10, 0b11]", {"a": [1, -2, 1000, 8, 16, 3]}),
        ("a: [0.5, 5e-1, 1., .5, -1.5E3, 1_0.5]", {"a": [0.5, 0.5, 1.0, 0.5, -1500.0, 10.5]}),
        ("a: [yes, Off, true, null, ~, '']", {"a": [True, False, True, None, None, ""]}),
        ("a: [1:30, 2026-11-29, .inf, .nan]", {"a": ["1:30", "2026-11-29", ".inf", ".nan"]}),
        ("a: [1e999, 0x_, =]", {"a": ["1e999", "0x_", "="]}),
        (f"a: {1 << 63}", {"a": str(1 << 63)}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: *x", {"a": {"b": 1}, "c": {"b": 1, "d": 2}, "e": {"b": 1}}),
        ("!!str 5", "5"),
        ("", None),
        (DESCRIPTION, yaml.safe_load(DESCRIPTION)),
    ],
)  # fmt: skip
def test_values_are_plain_and_the_same_for_both_readers(text: str, value: object) -> None:
    assert read_yaml(text.encode()) == value
    node = compose(text.encode())
    assert (None if node is None else value_of(node)) == value


@pytest.mark.parametrize(
    "text",
    [
        "!!float ''",
        "!!set {a}",
        "!!binary aa==",
        "!own x",
        "!!python/name:os.system x",
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "[" * 200_000,
        "{a: " * 50_000,
        "a: &a [*a]",
        "&a [&b [*a]]",
        f"[{'x,' * MOST_VALUES}]",
        "x" * (MOST_BYTES + 1),
        '"\\ud800"',
        '"\\0"',
        "\x07",
        "a: *b",
        "a: 1\n--- \nb: 2",
        "'",
        "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9)),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_not_plain_or_too_much_is_refused_by_both_readers(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_yaml(text.encode())
    with pytest.raises(yaml.MarkedYAMLError):
        compose(text.encode())


def test_a_description_that_was_tampered_with_is_obedient_or_refused(tmp_path: Path) -> None:
    odd = ["!!float ''", "&a [*a]", "[" * 100, "*a", "9" * 5_000, "\x00", "\ud800", ": ", "- ", "\n", "'", "code", "{"]
    path = tmp_path / "MLmodel"
    ended = {"obedient": 0, "refused": 0}
    for seed in range(500):
        random_ = random.Random(seed)  # noqa: S311
        text = DESCRIPTION
        for _ in range(random_.randint(0, 2)):
            place = random_.randrange(len(text))
            text = text[:place] + random_.choice(odd) + text[place + random_.choice([0, 0, 5]) :]
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            require_obedient(tmp_path, None)
            ended["obedient"] += 1
        except IntegrityError:
            ended["refused"] += 1
    assert min(ended.values()) > 50, ended
