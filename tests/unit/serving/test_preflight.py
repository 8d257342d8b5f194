"""From facts alone: which engine of a bundle runs on a host, which goes first, and what to do about the others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from regiolect import __version__
from regiolect.contracts import Arithmetic, EngineArtifact, Misfit, Precision, Target
from regiolect.engines import catalog
from regiolect.engines.arithmetic import ARITHMETIC
from regiolect.engines.tensorrt.fits import plain_misfits
from regiolect.errors import DeviceLost, EngineLoadFailed, ForeignRegion, InvalidSetting
from regiolect.serving.preflight import (
    EngineFit,
    Fit,
    Preflight,
    not_runnable,
    passed_over,
    preflight,
    region_here,
    require_region,
)

VERSION = Misfit(what="version", engine="1.2.3", host="1.31.0", blocks=False)
ISA = Misfit(what="isa", engine="avx512_vnni", host="avx2", blocks=False)
OTHER_CLASS = Misfit(what=ARITHMETIC, engine="saturating", host="vnni", blocks=False)
CAPABILITY = Misfit(what="compute capability", engine="8.9", host="7.5", blocks=True)
INSTALL = "pip install 'regiolect[onnxruntime]' onnxruntime==1.31.0"
LIBRARY = Misfit(what="library", engine="onnxruntime 1.31.0", host="it is not installed", blocks=True, remedy=INSTALL)
BOUND = Misfit(what="version", engine="1.31.0", host="1.32.0", blocks=True)
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


def engine_for(report: Preflight, target: str) -> EngineFit:
    return next(each for each in report.engines if each.target == target)


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
            f"does not run here: onnxruntime 1.31.0 needed, it is not installed; {INSTALL}",
        ),
        (
            [LIBRARY, CAPABILITY],
            "does not run here: onnxruntime 1.31.0 needed, it is not installed; compute capability 8.9 needed, 7.5 "
            f"here; pool one would build it: prefect worker start --pool one on {POOL} one",
        ),
        ([BOUND], f"does not run here: version 1.31.0 needed, 1.32.0 here; {INSTALL}"),
        (
            [DEVICE, CAPABILITY],
            "does not run here: a device of gpu needed, no NVIDIA driver on this machine; compute capability 8.9 "
            "needed, 7.5 here; load it on a machine of target one, or name a target for machines like this one in the "
            "policy of eu and release again",
        ),
    ],
    ids=["fits", "binds", "unmeasured", "library", "library and device", "version", "device"],
)
def test_a_person_is_told_both_sides_and_what_to_do(of, misfits: list[Misfit], told: str) -> None:
    (engine,) = of(one=misfits).engines
    assert engine.summary() == told


def test_the_engine_that_runs_is_named_beside_one_that_does_not(of) -> None:
    gpu, _ = of(gpu=[CAPABILITY], cpu=[VERSION]).engines
    assert "7.5 here; the engine for cpu runs here; or pool gpu would build it" in gpu.summary()


def test_what_belongs_to_no_class_goes_before_what_stands_in_for_another_class(of) -> None:
    report = of(saturating=[OTHER_CLASS, ISA], wide=[VERSION], bound=[Misfit(**{**dict(OTHER_CLASS), "blocks": True})])
    assert targets(report) == ["wide", "saturating"]
    assert report.engines[2].instead == "wide"


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ([], "the engine for one (vnni) runs here"),
        ([ISA], "the engine for one (vnni) runs here"),
        ([OTHER_CLASS], "the engine for one (vnni) runs here; or release it"),
    ],
    ids=["its class", "its class, another host", "a wider one of another class"],
)
def test_nothing_is_to_be_done_about_an_engine_for_another_class_where_there_is_one_for_this(
    bundles, beside: list[Misfit], told: str
) -> None:
    made = bundles.artifact(target="one")
    classes = (Arithmetic.SATURATING, Arithmetic.VNNI)
    engines = [made.model_copy(update={"request": made.request.model_copy(update={"arithmetic": c})}) for c in classes]
    bound = Misfit(what=ARITHMETIC, engine="saturating", host="vnni", blocks=True, remedy="release it")

    def misfits(artifact: EngineArtifact) -> Sequence[Misfit]:
        return [bound] if artifact.request.arithmetic is Arithmetic.SATURATING else beside

    saturating, _ = preflight(engines, misfits).engines
    assert saturating.summary() == f"does not run here: arithmetic saturating needed, vnni here; {told}"


def test_a_remedy_that_there_is_none_of_is_not_named_where_nothing_loads(bundles) -> None:
    made = bundles.artifact(target="one")
    classes = (Arithmetic.VNNI, Arithmetic.SATURATING)
    engines = [made.model_copy(update={"request": made.request.model_copy(update={"arithmetic": c})}) for c in classes]
    bound = Misfit(what=ARITHMETIC, engine="saturating", host="vnni", blocks=True, remedy="release it")

    def misfits(artifact: EngineArtifact) -> Sequence[Misfit]:
        return [bound] if artifact.request.arithmetic is Arithmetic.SATURATING else []

    report = preflight(engines, misfits)
    failed = {report.engines[0].slot: EngineLoadFailed("a file", "a damaged one", "fetch it again")}
    error = not_runnable("tiny-eu", report, failed)
    assert "one (saturating): arithmetic saturating needed, vnni here" in error.found
    assert error.remedy == "one of these: one (vnni): fetch it again"


def test_where_nothing_runs_every_engine_is_told_with_its_remedy(of) -> None:
    report = of(gpu=[CAPABILITY], cpu=[LIBRARY])
    error = not_runnable("tiny-eu", report, {})
    assert error.found == (
        "gpu: compute capability 8.9 needed, 7.5 here; cpu: onnxruntime 1.31.0 needed, it is not installed"
    )
    assert error.remedy.startswith("one of these: gpu: pool gpu would build it")
    assert error.remedy.endswith(f"cpu: {INSTALL}")


def test_engines_that_were_lost_are_told_by_whatever_is_loaded_instead(of) -> None:
    report = of(old=[VERSION], gpu=[], cpu=[], edge=[DEVICE])
    failed = EngineLoadFailed("cuDNN 9", "none", "install cuDNN")
    assert passed_over("tiny-eu", report, {}, engine_for(report, "cpu")) is None
    assert passed_over("tiny-eu", report, {}, engine_for(report, "gpu")) is None
    said = "gpu: fits, but did not load: expected cuDNN 9, found none"
    told = f"tiny-eu runs on its engine for {{}} in place of another: {said}"
    assert (
        passed_over("tiny-eu", report, {"gpu": failed}, engine_for(report, "cpu"))
        == f"{told.format('cpu')}; install cuDNN"
    )
    # What was measured on such a host is tried first, wherever it stands.
    assert (
        passed_over("tiny-eu", report, {"gpu": failed}, engine_for(report, "old"))
        == f"{told.format('old')}; install cuDNN"
    )


def test_a_device_that_does_not_answer_was_meant_for_this_machine_and_one_that_is_missing_was_not(bundles) -> None:
    def misfits(artifact: EngineArtifact) -> Sequence[Misfit]:
        if artifact.request.target.name == "gpu":
            raise DeviceLost("an NVIDIA GPU that answers its driver", "GPU is lost", "look at `nvidia-smi`")
        return [DEVICE] if artifact.request.target.name == "other" else []

    engines = [bundles.artifact(target=name) for name in ("other", "first", "gpu", "cpu")]
    gpu = engines[2].model_copy(update={"fingerprint": {"gpu": "NVIDIA A10"}})
    report = preflight([*engines[:2], gpu, engines[3]], misfits)
    assert targets(report) == ["first", "cpu"]
    assert passed_over("tiny-eu", report, {}, engine_for(report, "first")) is None, "the policy prefers it"
    assert passed_over("tiny-eu", report, {}, engine_for(report, "cpu")) == (
        "tiny-eu runs on its engine for cpu in place of another: gpu: a device of gpu (NVIDIA A10) needed, GPU is "
        "lost; look at `nvidia-smi`"
    )


@pytest.mark.parametrize(
    ("backend", "options", "fingerprint", "told", "remedy"),
    [
        ("quantum", {}, {}, "backend quantum needed, Regiolect {} knows openvino", "install the version of Regiolect"),
        (
            "tensorrt",
            {"sparsity": True},
            {"flavour": "tensorrt"},
            "options.sparsity True needed, Extra inputs are not permitted (known: builder_optimization_level, ",
            "install the version of Regiolect that released it, or a newer one",
        ),
        (
            "tensorrt",
            {},
            {"flavour": "tensorrt", "compute capability": "twelve"},
            "a fingerprint that Regiolect {} reads needed, ValueError: ",
            "install the version of Regiolect that released it, or a newer one",
        ),
    ],
)
def test_what_one_manifest_says_does_not_keep_the_others_from_running(
    bundles, backend: str, options: dict[str, object], fingerprint: dict[str, str], told: str, remedy: str
) -> None:
    """The comparison is TensorRT's own; the machine's GPU is told."""
    made = bundles.artifact(target="odd")
    target = Target(name="odd", backend=backend, options=options)
    odd = made.model_copy(
        update={"request": made.request.model_copy(update={"target": target}), "fingerprint": fingerprint}
    )

    def misfits(artifact: EngineArtifact) -> Sequence[Misfit]:
        if artifact is not odd:
            return []
        catalog.backend(backend)
        return plain_misfits(artifact, {"version": "11.4.0.106", "compute capability": "8.6"})

    report = preflight([odd, bundles.artifact(target="cpu")], misfits)
    assert targets(report) == ["cpu"]
    assert report.engines[0].differences().startswith(told.format(__version__))
    assert report.engines[0].remedy.startswith(remedy)
    assert report.engines[0].instead == "cpu"
    assert passed_over("tiny-eu", report, {}, engine_for(report, "cpu")) is None


def test_a_comparison_that_fails_by_name_tells_its_own_remedy(bundles) -> None:
    def misfits(artifact: EngineArtifact) -> Sequence[Misfit]:
        raise InvalidSetting("REGIOLECT_GPU as a number", "'first'", "export REGIOLECT_GPU=0")

    (engine,) = preflight([bundles.artifact()], misfits).engines
    assert engine.summary() == ("does not run here: REGIOLECT_GPU as a number needed, 'first'; export REGIOLECT_GPU=0")


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
