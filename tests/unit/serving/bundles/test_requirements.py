"""What a version asks its consumers to install."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from regiolect import __version__
from regiolect.serving import load_bundle, requirements


@pytest.fixture
def listed(bundles, tmp_path: Path):
    """The requirements of a version with engines of these backends, each built by the version told."""

    def of(*engines: tuple[str, str]) -> tuple[str, ...]:
        made = [
            bundles.artifact("eu", target=f"target-{number}", backend=backend).model_copy(
                update={"backend_version": version}
            )
            for number, (backend, version) in enumerate(engines)
        ]
        return requirements(bundles.write(tmp_path / "bundle", *made))

    return of


def test_our_extras_bring_what_each_backend_needs_beside_its_runtime(listed) -> None:
    assert listed(("tensorrt-rtx", "1.7.1.116"), ("openvino", "2026.4.1")) == (
        f"regiolect[openvino,tensorrt-rtx]=={__version__}",
        "tensorrt-rtx-cu13==1.7.1.116",
        "openvino==2026.4.1",
    )


@pytest.mark.parametrize("cuda_first", [True, False])
def test_of_two_distributions_that_exclude_each_other_the_one_that_carries_both_is_listed(
    listed, cuda_first: bool
) -> None:
    engines = (("onnxruntime-cuda", "1.31.1"), ("onnxruntime", "1.31.1"))
    assert listed(*engines[:: 1 if cuda_first else -1]) == (
        f"regiolect[onnxruntime-cuda]=={__version__}",
        "onnxruntime-gpu==1.31.1",
    )


def test_a_distribution_has_one_version_that_of_the_engine_that_the_policy_prefers(listed) -> None:
    assert listed(("onnxruntime", "1.30.0"), ("onnxruntime-cuda", "1.31.1"), ("onnxruntime", "1.29.0"))[1:] == (
        "onnxruntime-gpu==1.30.0",
    )
    assert listed(("onnxruntime", "1.30.0"), ("onnxruntime", "1.31.1"))[1:] == ("onnxruntime==1.30.0",)


def test_pip_takes_every_line_and_names_a_distribution_once(listed) -> None:
    lines = [
        Requirement(line)
        for line in listed(
            ("tensorrt", "11.4.0.106"),
            ("onnxruntime-cuda", "1.31.1"),
            ("openvino", "2026.4.1"),
            ("onnxruntime", "1.31.1"),
        )
    ]
    assert [line.name for line in lines] == ["regiolect", "tensorrt", "onnxruntime-gpu", "openvino"]
    assert lines[0].extras == {"tensorrt", "onnxruntime-cuda", "openvino"}


def test_a_host_with_the_build_for_gpus_alone_runs_the_engine_for_processors(
    bundles, built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version("onnxruntime")

    def installed(name: str, ask=importlib.metadata.version) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return version if name == "onnxruntime-gpu" else ask(name)

    bundles.write(tmp_path / "bundle", built("cpu-x86", "onnxruntime"))
    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert load_bundle(tmp_path / "bundle").target == "cpu-x86"
