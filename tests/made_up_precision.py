"""A made-up precision, and what Regiolect does with it, where its name and its row are in the table.

docs/extending/precision.md adds both to a copy of Regiolect, and runs this there.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

NAME = "W4A8"


def policies(folder: Path) -> Any:
    """That a file of a region's policy may state it, and what it is wider and coarser than."""
    from regiolect.contracts import Execution, Precision
    from regiolect.errors import InvalidPolicy, PolicyLoosens
    from regiolect.policy import PolicyBook
    from tests.flows.tiny_models import CPU, PORTABLE, Workshop

    folder.mkdir()
    made = Workshop(folder)
    made.model.write_bytes(b"a model that nobody reads here")
    made.add("north", CPU, PORTABLE, precision=NAME, repair={})
    policy = PolicyBook(made.policies).load("north")
    assert policy.precision is Precision(NAME)
    assert policy.stated_choice().method is not None, "thresholds are chosen by a method"
    assert policy.wider_precisions() == (Precision.INT8, Precision.FP16, Precision.FP32)
    assert policy.allows(Execution.BF16) and policy.allows(Execution.INT8)
    for wrong, error, said in (
        ({"precision": NAME, "forbidden": ["INT8"]}, InvalidPolicy, f"precision {NAME} is also listed in `forbidden`"),
        ({"precision": "INT8", "repair": {"fallback": [NAME]}}, InvalidPolicy, f"{NAME}, which is not wider than"),
    ):
        made.write_policy("south", **wrong)
        with pytest.raises(error, match=re.escape(said)):
            PolicyBook(made.policies).load("south")
    made.write_policy("south", precision="INT8", repair={})
    made.write_policy("east", precision=NAME, extends="south", repair={})
    with pytest.raises(PolicyLoosens, match=f"precision {NAME}, coarser than INT8"):
        PolicyBook(made.policies).load("east")
    return made


def planning(made: Any, folder: Path) -> None:
    """That engines are planned, one for each class of arithmetic, where a backend has it; and refused where not."""
    from regiolect.contracts import Precision
    from regiolect.engines.catalog import backend
    from regiolect.engines.openvino.recipe import RECIPES
    from regiolect.planning import Installation, ReleaseRequest, has_classes, plan_release
    from regiolect.policy import PolicyBook
    from regiolect.storage import LocalStore
    from tests.flows.tiny_models import ADDRESS

    book, store = PolicyBook(made.policies), LocalStore(folder / "store")

    RECIPES[Precision(NAME)] = RECIPES[Precision.INT8]
    policy = book.load("north")
    assert has_classes(policy, policy.targets[0])
    asked = ReleaseRequest.of(ADDRESS, ["north"])
    engine, refused = plan_release(asked, made.spec(), Installation(book, lambda region: store)).engines
    assert (engine.action, engine.precision) == ("build", Precision(NAME)), engine
    assert engine.arithmetic is backend("openvino").arithmetic()
    assert (refused.action, refused.target) == ("refuse", "portable"), refused
    assert refused.failure.found == f"{NAME}, for which it has no recipe"


def graphs() -> None:
    """That a graph is counted by the types that it holds, and such a one is never taken for a wider one."""
    from regiolect.graphs.scan import scan

    four = helper.make_tensor("w", TensorProto.INT4, [16, 3], np.ones(48, np.int8))
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wide"], name="wide"),
        helper.make_node("MatMul", ["x", "wide"], ["y"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "four bits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [four, scale],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    assert scan(model) == {"FP32": 0, "FP16": 0, "INT8": 0, NAME: 1}


def calibration() -> None:
    """That a region's calibration set is observed for it, as its row says."""
    from regiolect.calibrate import cached
    from regiolect.contracts import Precision

    nothing: Any = None
    with mock.patch.object(cached, "cached_observation") as observe:
        cached.observe_for(Precision(NAME), nothing, nothing, nothing)
    assert observe.call_args.kwargs["histograms"]


def attestation() -> None:
    """That the gate goes by what may execute for it."""
    from regiolect.contracts import Decision, Execution, Precision
    from tests.unit.gate import cases

    def decided(floor: str, built: str, **proof: int) -> Any:
        rows, rules = cases.table(2000), cases.policy(precision=Precision(floor))
        engine = cases.engine(precision=Precision(built))
        seen = cases.attestation(executed={Execution(kind): count for kind, count in proof.items()}, **{built: 9})
        return cases.decide_gate(engine, rules, seen, cases.evaluation(rows), rows)

    for executed in Execution:
        assert decided(NAME, NAME, **{executed: 3}).outcome is Decision.APPROVED
    assert decided(NAME, "INT8", INT8=3).outcome is Decision.APPROVED, "INT8 is wider"
    coarser = decided("INT8", NAME, INT8=3)
    assert coarser.outcome is Decision.FAILED
    assert any(f"9 compute nodes in {NAME}, coarser than the policy's INT8" in reason for reason in coarser.reasons)


def what_was_kept_before() -> None:
    """That attestations and policies from before it are read as they were."""
    from regiolect.attest import read_layers
    from regiolect.contracts import Attestation, Execution, GraphNode, LayerReport, Layers, Precision
    from regiolect.integrity import canonical_json
    from regiolect.policy import PolicyBook

    layers = Layers(
        build_key=f"sha256:{'0' * 64}",
        source="a test",
        graph=(GraphNode(name="conv", kind="Conv", precision=Precision.INT8),),
        engine=(LayerReport(name="conv", kind="Convolution", precision=Execution.INT8, told="u8"),),
    )
    before = {Precision.FP32: 0, Precision.FP16: 0, Precision.INT8: 1}
    kept = Attestation(graph=before, executed={Execution.INT8: 1}, source="a test")
    assert read_layers(kept, canonical_json(layers)) == layers
    golden = Path(__file__).parent / "golden" / "policies_v1"
    for region, digest in json.loads((golden / "digests.json").read_text()).items():
        assert PolicyBook(golden).load(region).digest() == digest


def reports() -> None:
    """That a page groups and names its engines, and sees that wider kernels ran."""
    from regiolect.contracts import Precision
    from regiolect.report import render, words
    from tests.unit.report import pages

    row = pages.row(precision=Precision(NAME), executed="FP32 11")
    page = pages.Page(render(pages.release(row, pages.row("eu")), []))
    assert f"{NAME} graph" in page.text
    assert page.text.index("INT8") < page.text.rindex(NAME)
    assert words.precision_words(row) == f"{NAME} graph, FP32 kernels"
    assert words.runs_wider(row)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        made = policies(Path(name) / "workshop")
        planning(made, Path(name))
    graphs()
    calibration()
    attestation()
    what_was_kept_before()
    reports()
    print("held")


if __name__ == "__main__":
    main()
