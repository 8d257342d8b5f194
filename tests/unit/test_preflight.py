"""From facts alone: which engine of a bundle runs on a host, which goes first, and what to do about the others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from regiolect.contracts import EngineArtifact, Misfit, Precision
from regiolect.errors import ForeignRegion
from regiolect.preflight import Fit, Preflight, not_runnable, preflight, region_here, require_region

VERSION = Misfit(what="version", engine="1.2.3", host="1.31.0", blocks=False)
ISA = Misfit(what="isa", engine="avx512_vnni", host="avx2", blocks=False)
CAPABILITY = Misfit(what="compute capability", engine="8.9", host="7.5", blocks=True)
LIBRARY = Misfit(what="library", engine="onnxruntime 1.31.0", host="it is not installed", blocks=True)
DEVICE = Misfit(what="device", engine="gpu", host="no NVIDIA driver on this machine", blocks=True)
POOL = "a machine like this one, then regiolect run MODEL --regions eu --targets"


@pytest.fixture
def of(bundles):
    """The report on engines that differ from the host as told, by target."""

    def report(precision: Precision = Precision.FP32, **misfits: Sequence[Misfit]) -> Preflight:
        def engine(target: str) -> EngineArtifact:
            made = bundles.artifact(target=target)
            return made.model_copy(update={"request": made.request.model_copy(update={"precision": precision})})

        return preflight([engine(name) for name in misfits], lambda artifact: misfits[artifact.request.target.name])

    return report


def targets(report: Preflight) -> list[str]:
    return [each.target for each in report.to_try()]


def test_what_was_measured_on_such_a_host_goes_first_and_else_the_bundles_order_counts(of) -> None:
    report = of(gpu=[CAPABILITY], old=[VERSION], older=[VERSION, ISA], cpu=[], edge=[])
    assert [each.target for each in report.engines] == ["gpu", "old", "older", "cpu", "edge"]
    assert targets(report) == ["cpu", "edge", "old", "older"]
    assert [each.fit for each in report.engines] == [
        Fit.NONE,
        Fit.UNMEASURED,
        Fit.UNMEASURED,
        Fit.FITS,
        Fit.FITS,
    ]


def test_one_difference_that_binds_is_enough(of) -> None:
    assert targets(of(gpu=[VERSION, CAPABILITY, ISA])) == []


@pytest.mark.parametrize(
    ("misfits", "told"),
    [
        ([], "fits here"),
        (
            [VERSION, CAPABILITY],
            "does not run here: compute capability 8.9 needed, 7.5 here; pool one would build it: "
            f"prefect worker start --pool one on {POOL} one",
        ),
        (
            [VERSION],
            "runs here, measured on another host: version 1.2.3 there, 1.31.0 here; pool one would measure it: "
            f"prefect worker start --pool one on {POOL} one",
        ),
        (
            [LIBRARY],
            "does not run here: onnxruntime 1.31.0 needed, it is not installed; pip install onnxruntime==1.31.0",
        ),
        (
            [DEVICE, CAPABILITY],
            "does not run here: a device of gpu needed, no NVIDIA driver on this machine; compute capability 8.9 "
            "needed, 7.5 here; load it on a machine of target one, or name a target for machines like this one in the "
            "policy of eu and release again",
        ),
    ],
    ids=["fits", "binds", "unmeasured", "library", "device"],
)
def test_a_person_is_told_both_sides_and_what_to_do(of, misfits: list[Misfit], told: str) -> None:
    (engine,) = of(one=misfits).engines
    assert engine.summary() == told


def test_the_engine_that_runs_is_named_beside_one_that_does_not(of) -> None:
    gpu, _ = of(gpu=[CAPABILITY], cpu=[VERSION]).engines
    assert "7.5 here; the engine for cpu runs here; or pool gpu would build it" in gpu.summary()


@pytest.mark.parametrize(("misfit", "warned"), [(ISA, True), (VERSION, False)])
def test_int8_is_cautioned_of_where_kernels_differ(of, misfit: Misfit, warned: bool) -> None:
    (engine,) = of(Precision.INT8, cpu=[misfit]).engines
    assert ("INT8 answers depend on the processor's kernels" in engine.warning("tiny-eu")) is warned
    (wide,) = of(Precision.FP32, cpu=[misfit]).engines
    assert "INT8" not in wide.warning("tiny-eu")


def test_where_nothing_runs_every_engine_is_told_with_its_remedy(of) -> None:
    report = of(gpu=[CAPABILITY], cpu=[LIBRARY])
    error = not_runnable("tiny-eu", report, {})
    assert error.found == (
        "gpu: compute capability 8.9 needed, 7.5 here; cpu: onnxruntime 1.31.0 needed, it is not installed"
    )
    assert error.remedy.startswith("one of these: gpu: pool gpu would build it")
    assert error.remedy.endswith("cpu: pip install onnxruntime==1.31.0")


def test_a_report_crosses_a_process_border(of) -> None:
    report = of(gpu=[CAPABILITY], cpu=[VERSION])
    assert Preflight.model_validate_json(report.model_dump_json()) == report


def test_regions_are_compared_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    require_region("tiny", "eu", "eu")
    require_region("tiny", "eu", None)
    with pytest.raises(ForeignRegion, match=r"'na'.*for region 'eu'"):
        require_region("tiny", "eu", "na")
    monkeypatch.setenv("REGIOLECT_REGION", "na")
    assert region_here() == "na"
    monkeypatch.setenv("REGIOLECT_REGION", "")
    assert region_here() is None
