"""An INT8 engine runs in the class of arithmetic in which it was judged, and in no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regiolect.contracts import Arithmetic, EngineArtifact, Misfit, Precision
from regiolect.engines import catalog
from regiolect.engines.arithmetic import other_arithmetic
from regiolect.errors import NotRunnableHere

SATURATING = {"machine": "x86_64", "isa": "avx2"}
VNNI = {"machine": "x86_64", "isa": "avx2 avx512f avx512_vnni"}
Artifact = Callable[..., EngineArtifact]


@pytest.fixture
def engine(bundles) -> Artifact:
    def made(
        precision: Precision, arithmetic: Arithmetic | None = None, through: str = "onnxruntime", **fingerprint: str
    ) -> EngineArtifact:
        built = bundles.artifact(backend=through)
        request = built.request.model_copy(update={"precision": precision, "arithmetic": arithmetic})
        return built.model_copy(update={"request": request, "fingerprint": fingerprint})

    return made


@pytest.mark.parametrize("here", [*Arithmetic, None])
@pytest.mark.parametrize("judged", Arithmetic)
def test_int8_runs_in_its_own_class_alone(engine: Artifact, judged: Arithmetic, here: Arithmetic | None) -> None:
    found = other_arithmetic(engine(Precision.INT8, judged), here)
    if judged is here:
        assert found == ()
    else:
        (misfit,) = found
        said = (misfit.what, misfit.engine, misfit.host, misfit.blocks)
        assert said == ("arithmetic", judged, here or "unknown", True)


def test_who_has_another_class_is_told_how_to_add_it(engine: Artifact) -> None:
    (misfit,) = other_arithmetic(engine(Precision.INT8, Arithmetic.VNNI), Arithmetic.AMX)
    assert misfit.remedy == (
        "release it on a machine like this one, which adds an engine of class amx: "
        "regiolect run MODEL --regions eu --targets cpu"
    )


@pytest.mark.parametrize(
    ("fingerprint", "here", "judged"),
    [
        (SATURATING, Arithmetic.SATURATING, None),
        (VNNI, Arithmetic.VNNI, None),
        (VNNI, Arithmetic.SATURATING, "vnni"),
        (SATURATING, Arithmetic.AMX, "saturating"),
        ({"machine": "x86_64"}, Arithmetic.VNNI, "unknown"),
        ({"machine": "x86_64", "isa": "unknown"}, Arithmetic.VNNI, "unknown"),
    ],
)
def test_an_older_engine_has_the_class_of_its_instruction_sets(
    engine: Artifact, fingerprint: dict[str, str], here: Arithmetic, judged: str | None
) -> None:
    found = other_arithmetic(engine(Precision.INT8, **fingerprint), here)
    assert [(misfit.engine, misfit.blocks) for misfit in found] == ([] if judged is None else [(judged, True)])
    if judged == "unknown":
        assert "release it again, for its class of arithmetic was not kept" in found[0].remedy


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("here", [*Arithmetic, None])
def test_wider_engines_are_bound_to_no_class(engine: Artifact, precision: Precision, here: Arithmetic | None) -> None:
    assert other_arithmetic(engine(precision, **SATURATING), here) == ()
    assert other_arithmetic(engine(precision), here) == ()
    # One that was built in the place of an INT8 engine of a class runs everywhere, and says whose place that is.
    in_place = other_arithmetic(engine(precision, Arithmetic.VNNI), here)
    told = Misfit(what="arithmetic", engine="vnni", host=here or "unknown", blocks=False)
    assert in_place == (() if here is Arithmetic.VNNI else (told,))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_loading_refuses_another_class_before_the_library_is_asked(
    engine: Artifact, bundles, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = catalog.backend(backend)
    monkeypatch.setattr(chosen, "arithmetic", lambda: Arithmetic.SATURATING)
    built = engine(Precision.INT8, Arithmetic.VNNI, backend, **chosen.fingerprint())
    built = built.model_copy(
        update={"files": tuple(built.files[0].model_copy(update={"path": name}) for name in chosen.file_names)}
    )
    monkeypatch.setattr(chosen, "_load", lambda *given: pytest.fail("it was deserialized"))
    with pytest.raises(NotRunnableHere, match="arithmetic vnni") as caught:
        chosen.load(built, bundles.store)
    assert "adds an engine of class saturating" in caught.value.remedy


def test_gpu_backends_have_no_classes(engine: Artifact) -> None:
    for name in ("onnxruntime-cuda", "tensorrt-rtx", "tensorrt"):
        assert not catalog.backend(name).classed
