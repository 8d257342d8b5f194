"""A plan as data: its shape is a promise to programs, kept as a golden file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from regiolect.contracts import Decision
from regiolect.planning import ModelPlan, Plan, PlanDocument, document_of
from tests.flows.tiny_models import ADDRESS, CPU, PORTABLE, Workshop

GOLDEN = Path(__file__).parents[2] / "golden" / "plan_v1" / "plan.json"
FAILURE = ("kind", "expected", "found", "remedy")


def every_verb(plan: Callable[..., Plan], build: Callable[..., object], workshop: Workshop) -> Plan:
    """A plan with one of each."""
    workshop.add("west", CPU, PORTABLE)
    for request in plan("west").requests():
        build(request, Decision.INCONCLUSIVE if request.target.name == "cpu" else Decision.APPROVED)
    build(plan("north").engines[0].request)
    workshop.write_policy("north", limit=4.0)
    workshop.add("gone")
    build(plan("gone").engines[0].request)
    (workshop.policies / "gone.yaml").unlink()
    workshop.add("south")
    (workshop.data("south") / "gate.npz").unlink()
    return plan()


def without_what_differs(text: str, folder: Path) -> str:
    """Digests by the order in which they come, and no temporary folder."""
    text = text.replace(str(folder), "FOLDER")
    # This machine's class.
    text = re.sub(r'\n *"arithmetic": "\w+",|--(saturating|vnni|amx|arm)(?=\.json)', "", text)
    names: dict[str, str] = {}
    for digest in re.findall(r"sha256:([0-9a-f]{64})", text):
        names.setdefault(digest, f"{len(names) + 1:064x}")
    for digest, name in names.items():
        text = text.replace(digest, name).replace(f"build {digest[:12]}", f"build {name[-12:]}")
    return text


def test_the_document_has_the_shape_that_programs_know(plan, build, workshop: Workshop) -> None:
    planned = every_verb(plan, build, workshop)
    failed = ModelPlan.model_validate(
        {"address": "no.such:MODEL", "plan": None, "failure": dict.fromkeys(FAILURE, "-")}
    )
    document = document_of([ModelPlan(address=ADDRESS, plan=planned), failed])
    told = without_what_differs(document.model_dump_json(indent=2) + "\n", workshop.folder)
    assert told == GOLDEN.read_text()


@pytest.mark.parametrize("file", sorted(GOLDEN.parent.iterdir()), ids=lambda file: file.stem)
def test_every_document_of_this_format_still_reads(file: Path) -> None:
    document = PlanDocument.model_validate_json(file.read_bytes())
    assert document.work
    counted = Counter(engine.action for model in document.models for engine in model.engines)
    assert {action: count for action, count in document.summary.items() if count} == counted
