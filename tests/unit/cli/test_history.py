"""`regiolect history`: each version with what changed for it, the gate's word and who promoted it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regiolect.cli.history import print_history
from regiolect.cli.history_facts import history_of
from regiolect.contracts import RegisteredTarget, RegisteredVersion
from regiolect.settings import Settings
from tests.unit.cli.conftest import LOOSER

WHEN = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


def version(number: int, build_key: str, **more: Any) -> RegisteredVersion:
    engine = RegisteredTarget(
        target="cpu",
        arithmetic=None,
        backend="onnxruntime 1.31.0",
        precision="FP32",
        executed="FP32 2",
        build_key=build_key,
        decision="approved",
        loss=-0.001,
        loss_upper=0.25,
        limit=0.5,
        unit="absolute_points",
    )
    facts: dict[str, Any] = {
        "aliases": (),
        "champion": False,
        "policy": None,
        "bundle": None,
        "engines": (engine,),
        **more,
    }
    uri = f"models:/tiny-eu/{number}"
    return RegisteredVersion(
        name="tiny-eu", version=number, uri=uri, model="tiny", region="eu", registered=WHEN, **facts
    )


def told(capsys: pytest.CaptureFixture[str], *versions: RegisteredVersion, home: Path | None = None) -> list[list[str]]:
    """What is said of each version, line by line."""
    print_history(history_of(versions, None if home is None else Settings(home=home).store()))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-1].startswith("tiny-eu: ")
    return [lines[number * 4 : number * 4 + 4] for number in range(len(versions))]


def test_each_version_is_told_with_what_changed_since_the_one_before(home: Path, built, capsys) -> None:
    one, two = (built(*of)[1].request.build_key for of in ((b"one",), (b"two", LOOSER)))
    signed = {"champion": True, "aliases": ("champion",), "promoted": WHEN, "signed_by": "tests (0123456789ab)"}
    versions = (version(1, one, aliases=("previous",)), version(2, two, **signed), version(3, two))
    first, second, third = told(capsys, *versions, home=home)
    assert first == [
        "1  registered 2026-03-04 05:06 UTC, previous",
        "promoted by a release, for nothing held it back; replaced since",
        "cpu: FP32, onnxruntime 1.31.0; approved: loss +0.00 pt, at most +0.25, limit 0.5 pt",
        "the first for its place",
    ]
    assert second[:2] == [
        "2  registered 2026-03-04 05:06 UTC, champion",
        "promoted by a release; 2026-03-04 05:06 UTC, signed by tests (0123456789ab)",
    ]
    assert second[3] == "changed since version 1: the policy (accuracy.limit 100 -> 99)"
    assert third[3] == "the build of version 2"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"held": "WorseThanChampion: worse"}, "held back: WorseThanChampion: worse"),
        (
            {"promoted_by": "ann", "because": "a new camera"},
            "promoted by ann, because: a new camera, as its tags tell; replaced since",
        ),
        (
            {"aliases": ("champion",)},
            "NOT PROMOTED by anybody whose signature counts here: `champion` was moved by hand",
        ),
    ],
)
def test_who_decided_is_told(capsys, facts: dict[str, Any], line: str) -> None:
    assert told(capsys, version(1, "a", **facts))[0][1] == line


def test_what_is_not_kept_here_is_not_made_up(capsys) -> None:
    _, second = told(capsys, version(1, "a"), version(2, "b"))
    assert second[3] == "another build than in version 1; what changed is not kept here"
