"""An option of names that names nothing means nothing, rather than everything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.cli.options import names_in
from regiolect.errors import UsageError


@pytest.mark.parametrize("given", ["", " ", ",", " , ,"])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "a.b:MODEL", "--regions"],
        ["run", "a.b:MODEL", "--targets"],
        ["plan", "-r"],
        ["nightly", "--regions"],
        ["tune", "a.b:MODEL", "--regions"],
        ["study", "calibration", "a.b:MODEL", "-n", "2", "--regions"],
        ["doctor", "--regions"],
        ["up", "--only"],
    ],
    ids=" ".join,
)
def test_an_option_that_a_script_gave_without_a_name_is_refused_before_anything_is_done(
    command: list[str], given: str
) -> None:
    ended = CliRunner().invoke(app, [*command, given])
    assert isinstance(ended.exception, UsageError), ended.output
    assert ended.exception.found == repr(given)
    assert "leave --" in ended.exception.remedy


def test_names_are_those_between_commas_and_all_are_meant_where_the_option_is_left_out() -> None:
    assert names_in("eu, de,") == ["eu", "de"]
    assert names_in("") is None
    with pytest.raises(UsageError):
        names_in(" ,")
