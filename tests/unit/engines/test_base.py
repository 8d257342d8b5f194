from __future__ import annotations

import pytest

from regiolect.engines.engine import excerpt
from regiolect.engines.onnxruntime.backend import OnnxRuntimeBackend
from regiolect.engines.openvino.backend import OpenVinoBackend
from regiolect.errors import BackendUnavailable


class NotInstalled(OpenVinoBackend):
    distribution = "regiolect-has-no-such-library"


class NotLoading(OnnxRuntimeBackend):
    module = "onnxruntime.no_such_module"


@pytest.mark.parametrize(
    ("broken", "found", "remedy"),
    [
        (NotInstalled(), "not installed", "pip install 'regiolect[openvino]'"),
        (NotLoading(), "no_such_module", "pip install 'regiolect[onnxruntime]'"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(
    broken: OpenVinoBackend | OnnxRuntimeBackend, found: str, remedy: str
) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        broken.require()
    assert found in caught.value.found
    assert caught.value.remedy == remedy


def test_an_excerpt_is_one_short_line() -> None:
    assert excerpt(RuntimeError("a\n  b\tc")) == "a b c"
    assert excerpt("x" * 700) == "x" * 600 + "…"
    assert "RuntimeError" in excerpt(RuntimeError())
