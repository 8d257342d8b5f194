"""What a user writes to bring a model: refused with a remedy where it cannot work, found by name where it can."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regiolect.contracts import DeclaredStatistics, Preprocessing, TensorSpec
from regiolect.data import FolderSource
from regiolect.errors import InvalidModelSpec, UnknownRegion
from regiolect.evaluate.metrics import top1
from regiolect.model import Measure, ModelSpec
from regiolect.planning import load_model_spec

IMAGE = TensorSpec(name="image", shape=("batch", 1, 4, 4))
SOURCE = FolderSource("eu", Path("data/eu"), DeclaredStatistics(mean=(0, 1), std=(0, 1)))


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., ModelSpec]:
    """A spec that differs from a usable one in what is passed."""
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "code.py").write_text("code")

    def make(**changes: Any) -> ModelSpec:
        usable = {
            "name": "tiny",
            "loader": tmp_path / "model.onnx",
            "inputs": (IMAGE,),
            "outputs": ("logits",),
            "metrics": {"accuracy": top1},
            "data": {"eu": SOURCE},
        }
        return ModelSpec(**{**usable, **changes})

    return make


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Tiny"}, "lower-case"),
        ({"name": ""}, "lower-case"),
        ({"name": "-tiny"}, "lower-case"),
        ({"name": "tiny_net"}, "name='my-model'"),
        ({"inputs": ()}, "at least one input"),
        ({"outputs": ()}, "at least one input and one output"),
        ({"inputs": (TensorSpec(name="image", shape=(1, 1, 4, 4)),)}, "symbolic batch as first dimension"),
        ({"metrics": {}}, "top1"),
        ({"data": {"na": SOURCE}}, "another region's data is never a substitute"),
        ({"loader": Path("nowhere.onnx")}, r"missing nowhere\.onnx"),
        ({"loader": lambda: None}, "a change of weights could not be noticed"),
    ],
)
def test_a_spec_that_cannot_work_is_refused_when_it_is_written(spec, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidModelSpec, match=told):
        spec(**changes)


THREE = (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        # Channels last: what was silent where the height is 3 by chance, and died in numpy elsewhere.
        ([("batch", 3, 8, 3)], "with 3 on axis 1, 3"),
        ([("batch", 8, 8, 3)], "with 3 on axis 3"),
        ([("batch", 3, 3, 3)], "with 3 on axis 1, 2, 3"),
        # One channel of three, which became three.
        ([("batch", 1, 8, 8)], "with no axis of 3"),
        ([("batch", "channels", 8, 8)], "with no axis of 3"),
        ([("batch",)], "with no axis of 3"),
        # A second input that has no channels, or others.
        ([("batch", 3, 8, 8), ("batch", 5)], "for 'input1' of shape"),
    ],
)
@pytest.mark.parametrize("what", ["mean", "std"])
def test_means_by_channel_that_meet_another_axis_are_refused(
    spec, shapes: list[tuple[int | str, ...]], found: str, what: str
) -> None:
    inputs = tuple(TensorSpec(name=f"input{index}", shape=shape) for index, shape in enumerate(shapes))
    with pytest.raises(InvalidModelSpec, match=f"preprocessing.{what} as axis 1 .*(?s:.)*{found}"):
        spec(inputs=inputs, preprocessing=Preprocessing(**{what: THREE}))
    assert spec(inputs=inputs, preprocessing=Preprocessing(**{what: (0.1,)}))


def test_means_by_channel_are_taken_where_channels_are_axis_1_and_no_other(spec) -> None:
    inputs = (TensorSpec(name="image", shape=("batch", 3, 48, "width")), TensorSpec(name="row", shape=("batch", 3)))
    assert spec(inputs=inputs, preprocessing=Preprocessing(mean=THREE, std=THREE))


def test_a_loader_function_with_its_sources_will_do(spec, tmp_path: Path) -> None:
    assert spec(loader=lambda: None, sources=(tmp_path / "code.py",)).source_digest()


def test_every_thing_that_defines_the_model_is_in_its_digest(spec, tmp_path: Path) -> None:
    digests = [
        spec().source_digest(),
        spec(name="other").source_digest(),
        spec(inputs=(TensorSpec(name="image", shape=("batch", 1, 8, 8)),)).source_digest(),
        spec(outputs=("scores",)).source_digest(),
        spec(preprocessing=Preprocessing(mean=(0.5,))).source_digest(),
        spec(sources=(tmp_path / "code.py",)).source_digest(),
        spec(parity_tolerance=1e-3).source_digest(),
    ]
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    digests.append(spec().source_digest())
    assert len(set(digests)) == len(digests)


def test_what_does_not_define_the_model_is_not_in_its_digest(spec, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "copy.onnx"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"weights")
    assert spec(loader=elsewhere, data={}, note="simulated").source_digest() == spec().source_digest()


def test_a_metric_is_known_by_the_file_that_defines_it(spec) -> None:
    other = spec(metrics={"accuracy": load_model_spec})
    assert other.metric_source("accuracy").digest != spec().metric_source("accuracy").digest
    with pytest.raises(InvalidModelSpec, match="metric 'recall', which a policy names"):
        spec().metric_source("recall")
    with pytest.raises(InvalidModelSpec, match="with `def` or `class` in a module of yours"):
        spec(metrics={"accuracy": len}).metric_source("accuracy")


def test_which_way_scores_go_is_part_of_a_metrics_identity(spec) -> None:
    plain = spec().metrics["accuracy"]
    digests = [
        spec(metrics={"accuracy": metric}).metric_source("accuracy").digest
        for metric in (plain, Measure(plain), Measure(plain, greater_is_better=False))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_another_loader_of_the_same_file_is_another_model(spec) -> None:
    one, other = (spec(loader=each, sources=(Path(__file__),)) for each in (load_model_spec, ModelSpec))
    assert one.source_digest() != other.source_digest()


def test_what_a_loader_or_a_metric_counts_and_keeps_in_use_changes_neither(spec) -> None:
    """A build is refused if the model is another one than the plan's, and the plan itself may have run the loader."""

    def counting() -> Callable[..., None]:
        calls, kept = 0, {}

        def count(*given: object) -> None:
            nonlocal calls
            calls, kept[calls] = calls + 1, given
            count.last = calls

        return count

    class Counting:
        def __init__(self) -> None:
            self.kept: list[object] = []

        def __call__(self, *given: object) -> None:
            self.kept.append(given)
            self.calls = len(self.kept)

    for kind in (counting, Counting):
        made = spec(loader=kind(), sources=(Path(__file__),), metrics={"accuracy": kind()})
        before = made.source(), made.metric_source("accuracy")
        for use in (made.loader, made.metrics["accuracy"]):
            use()
            use()
        assert (made.source(), made.metric_source("accuracy")) == before


def test_a_change_of_what_a_loader_or_a_metric_was_made_with_has_a_name(spec) -> None:
    def made(width: int) -> ModelSpec:
        held = functools.partial(load_model_spec, [width])
        return spec(loader=held, sources=(Path(__file__),), metrics={"accuracy": held})

    one, other = made(64), made(65)
    for name, before, after in (
        ("what the loader is made with", one.source(), other.source()),
        ("what the metric is made with", one.metric_source("accuracy"), other.metric_source("accuracy")),
    ):
        assert before.digest != after.digest
        assert {each for each in after.files if before.files[each] != after.files[each]} == {name}


def test_two_metrics_of_one_name_in_a_file_are_two(spec) -> None:
    def made(kind: str) -> Callable[..., object]:
        if kind == "one":

            def score(outputs: object, targets: object) -> object:
                return targets
        else:

            def score(outputs: object, targets: object) -> object:
                return outputs

        return score

    first = lambda outputs, targets: targets  # noqa: E731
    second = lambda outputs, targets: outputs  # noqa: E731
    for one, other in ((first, second), (made("one"), made("other"))):
        digests = {spec(metrics={"accuracy": each}).metric_source("accuracy").digest for each in (one, other)}
        assert len(digests) == 2
        loaders = {spec(loader=each, sources=(Path(__file__),)).source_digest() for each in (one, other)}
        assert len(loaders) == 2


def test_a_thing_whose_own_code_fails_when_it_is_looked_at_is_refused(spec) -> None:
    class Failing(dict[str, int]):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("not now")

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("not now")

    with pytest.raises(InvalidModelSpec, match="RuntimeError from what a partial is or holds"):
        spec(loader=functools.partial(load_model_spec, Failing()), sources=(Path(__file__),))


def test_a_region_without_data_is_told_which_have_some(spec) -> None:
    assert spec().region_data("eu") is SOURCE
    with pytest.raises(UnknownRegion, match="--regions eu"):
        spec().region_data("na")


# ------------------------------------------------------------------------------------------------- found by name
