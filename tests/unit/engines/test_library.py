from __future__ import annotations

import pytest

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


def test_what_regiolect_does_not_carry_is_installed_by_its_own_distribution() -> None:
    class Brought(NotInstalled):
        name = "brought"

    with pytest.raises(BackendUnavailable, match="pip install regiolect-has-no-such-library"):
        Brought().version()
