"""The files that hold the code of a thing: found by reading, whatever the thing is and however they are imported."""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import sys
import zipfile
from code import InteractiveInterpreter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from regiolect.evaluate.metrics import top1
from regiolect.identity.made_of import made_of
from regiolect.identity.source_code import Code, code_of
from regiolect.model import Measure

Write = Callable[[Mapping[str, str]], Any]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules by their dotted names, into a folder that modules are found in, and imports the first one."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make(modules: Mapping[str, str]) -> Any:
        for name, text in modules.items():
            path = tmp_path / f"{name.replace('.', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(next(iter(modules)).removesuffix(".__init__"))

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def code(*things: object) -> Code:
    return code_of([made_of(thing, sys.path) for thing in things], sys.path)


def names(*things: object) -> list[str]:
    return list(code(*things).files)


# ---------------------------------------------------------------------------------------------------- what is imported


def test_imports_inside_functions_count_and_those_of_what_they_import(write: Write) -> None:
    spec = write(
        {
            "spec": "def load():\n    if True:\n        import network as n\n    return n\n",
            "network": "import torch, json\nfrom layers import Layer\n",
            "layers": "try:\n    import sizes\nexcept ImportError:\n    sizes = None\nLayer = 1\n",
            "sizes": "import no_such_module_anywhere\nimport spec\n",
            "bystander": "",
        }
    )
    assert names(spec.load) == ["layers.py", "network.py", "sizes.py", "spec.py"]


def test_nothing_is_run_to_find_a_file(write: Write) -> None:
    loud = "raise SystemExit('ran')\n"
    spec = write(
        {
            "spec": "def load():\n    import one\n    from package.inner import there\n",
            "one": loud,
            "package.__init__": loud,
            "package.inner": loud,
        }
    )
    assert names(spec.load) == ["one.py", "package/__init__.py", "package/inner.py", "spec.py"]


def test_packages_are_followed_by_absolute_and_by_relative_names(write: Write) -> None:
    spec = write(
        {
            "shop.spec": "from . import layers\nfrom .deep.net import Net\ndef load(): ...\n",
            "shop.__init__": "from shop.version import VERSION\n",
            "shop.version": "VERSION = 1\n",
            "shop.layers": "def never():\n    from ... import beyond\n",
            "shop.deep.__init__": "",
            "shop.deep.net": "from ..blocks import block\nfrom . import sibling\nNet = 1\n",
            "shop.deep.sibling": "",
            "shop.blocks": "from shop.deep import *\nblock = 1\n",
            "shop.unused": "",
        }
    )
    deep = ["shop/deep/__init__.py", "shop/deep/net.py", "shop/deep/sibling.py"]
    around = ["shop/layers.py", "shop/spec.py", "shop/version.py"]
    assert names(spec.load) == ["shop/__init__.py", "shop/blocks.py", *deep, *around]


def test_folders_without_an_init_are_packages_as_well(write: Write) -> None:
    spec = write(
        {
            "spec": "def load():\n    import outer.inner.net\n    from outer.inner import more\n",
            "outer.inner.net": "from . import part\n",
            "outer.inner.more": "",
            "outer.inner.part": "",
        }
    )
    assert names(spec.load) == ["outer/inner/more.py", "outer/inner/net.py", "outer/inner/part.py", "spec.py"]


def test_what_types_alone_need_does_not_count_and_what_a_text_names_does(write: Write) -> None:
    spec = write(
        {
            "spec": "import importlib, typing\nfrom typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import types_alone\nelse:\n    import otherwise\n"
            "if typing.TYPE_CHECKING:\n    import types_alone\n"
            "if typing:\n    if TYPE_CHECKING:\n        import types_alone\nelse:\n    import inner\n"
            "def load(name):\n    importlib.import_module('named')\n    importlib.import_module(name)\n",
            "types_alone": "",
            "otherwise": "",
            "inner": "",
            "named": "",
        }
    )
    assert names(spec.load) == ["inner.py", "named.py", "otherwise.py", "spec.py"]


PACKAGE = {"pack.__init__": "", "pack.one": "", "pack.two": "", "one": "", "two": ""}


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("from importlib import import_module as get\ndef load(): get('one')", {"one"}),
        ("import importlib\nNAME = 'one'\ndef load(): importlib.import_module(NAME)", {"one"}),
        ("import importlib\ndef load(x): importlib.import_module('one' if x else 'two')", {"one", "two"}),
        ("import importlib\ndef load(): return map(importlib.import_module, ('one', 'two'))", {"one", "two"}),
        ("import importlib\ndef load(): importlib.import_module('.one', 'pack')", {"pack/one"}),
        ("def load(): return __import__('pack', fromlist=['one'])", {"one", "pack/one"}),
        (
            "import importlib\nLAZY = {'Net': ('one', ('two',))}\nget = getattr(importlib, 'import_module')",
            {"one", "two"},
        ),
        ("import runpy\ndef load(): runpy.run_module('one')", {"one"}),
        ("import pkgutil\ndef load(): pkgutil.resolve_name('one:Net')", {"one"}),
        ("import pydoc\ndef load(): return pydoc.locate('pack.one.Net')", {"pack/one"}),
        ("from importlib.util import find_spec\ndef load(): return find_spec('pack.one')", {"pack/one"}),
        ("from importlib.metadata import EntryPoint\nNET = EntryPoint('net', 'one:Net', 'nets')", {"one"}),
        ("def load(): return 'one'", set()),
        ("def load(): return 'pack.one.Net'", set()),
    ],
)
def test_where_a_file_imports_by_text_its_texts_that_name_modules_count(
    write: Write, text: str, imported: set[str]
) -> None:
    spec = write({"spec": f"{text}\ndef made(): ...\n", **PACKAGE})
    assert imported == {name.removesuffix(".py") for name in names(spec.made)} & {"one", "two", "pack/one", "pack/two"}


HELPER = "import importlib\ndef get(name): return importlib.import_module(name.rpartition('.')[0])\n"


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("def load(): return get('pack.one.Net')", ["pack/__init__.py", "pack/one.py", "pack/more.py"]),
        ("def load(): return get('pack:one')", ["pack/__init__.py"]),
        ("def load(): return get('one:Net')", ["one.py"]),
        ("CONFIG = {'_target_': 'pack.two.Net'}", ["pack/__init__.py", "pack/two.py"]),
        # Words that may mean anything.
        ("def load(): return get('one')", []),
        ("def load(): return 'e.g. pack.one', 'a.b', '1.5'", []),
    ],
)
def test_what_a_helper_in_another_file_is_given_to_import_counts(write: Write, text: str, imported: list[str]) -> None:
    modules = {**PACKAGE, "pack.one": "get('pack.more.Net')\n", "pack.more": ""}
    spec = write({"spec": f"from helpers import get\n{text}\ndef made(): ...\n", "helpers": HELPER, **modules})
    assert sorted(names(spec.made)) == sorted(["helpers.py", "spec.py", *imported])


@pytest.mark.parametrize(
    "made",
    [
        "functools.partial(helpers.get, 'shop.net')",
        "functools.partial(helpers.get, **{'target': [{'_target_': 'shop.net:Net'}]})",
        "helpers.Get(Text('shop.net.Net'))",
    ],
)
def test_what_a_helper_is_given_to_import_counts_where_no_file_that_is_read_says_it(write: Write, made: str) -> None:
    modules = {"shop.__init__": "", "shop.net": "Net = 1", "shop.other": ""}
    helper = f"{HELPER}\nclass Get:\n    def __init__(self, name): self.name = name\n    __call__ = get\n"
    text = f"import functools, helpers\nclass Text(str): ...\nmade = {made}\n"
    spec = write({"spec": text, "helpers": helper, **modules})
    assert sorted({*names(spec.made)} - {"spec.py"}) == ["helpers.py", "shop/__init__.py", "shop/net.py"]


def test_a_thousand_names_with_dots_are_data(write: Write) -> None:
    modules = {"shop.__init__": "", "shop.net": ""}
    spec = write({"spec": "import helpers, functools", "helpers": HELPER, **modules})
    table = [f"image_{number}.png" for number in range(1_000)]
    assert names(functools.partial(spec.helpers.get, table, "shop.net")) == ["helpers.py"]


@pytest.mark.parametrize(
    "text",
    [
        "def load(): return __import__('one', globals(), level=1)",
        "import importlib\ndef __getattr__(name):\n    if name in {'one'}: return importlib.import_module('.' + name)",
    ],
)
def test_a_text_names_a_module_of_the_own_package_as_well(write: Write, text: str) -> None:
    spec = write({"pack.spec": f"{text}\ndef made(): ...\n", **PACKAGE})
    assert "pack/one.py" in names(spec.made)


def test_what_all_names_counts_where_everything_is_imported(write: Write) -> None:
    spec = write({"spec": "from pack import *\ndef load(): ...\n", **PACKAGE, "pack.__init__": "__all__ = ['one']\n"})
    assert names(spec.load) == ["pack/__init__.py", "pack/one.py", "spec.py"]


def test_an_archive_on_the_search_path_counts(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("zipped.py", "def build(): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "lib.zip")
    spec = write({"spec": "import zipped\ndef load(): ...\n"})
    assert code(spec.load).files["zipped/lib.zip"] == tmp_path / "lib.zip"
    assert list(code(functools.partial(spec.zipped.build)).files) == ["zipped/lib.zip"]


@pytest.mark.parametrize("table", [f"x = {'-' * 20_000}1", f"x = {' + '.join(['1'] * 20_000)}"])
def test_a_file_that_no_python_reads_counts(write: Write, table: str) -> None:
    spec = write({"spec": "def load():\n    import table\n", "table": table})
    assert names(spec.load) == ["spec.py", "table.py"]


def test_what_is_found_does_not_depend_on_how_deep_it_is_asked_for(write: Write) -> None:
    table = f"import one\nx = {' + '.join(['x'] * 2_000)}\n"
    spec = write({"spec": "def load():\n    import table\n", "table": table, "one": ""})

    def asked(depth: int) -> list[str]:
        return asked(depth - 1) if depth else names(spec.load)

    assert asked(500) == names(spec.load) == ["one.py", "spec.py", "table.py"]


def test_a_file_of_the_user_counts_though_it_is_called_like_one_of_the_standard_library(write: Write) -> None:
    spec = write({"spec": "def load():\n    import plistlib, statistics\n", "plistlib": ""})
    assert names(spec.load) == ["plistlib.py", "spec.py"]


def test_a_file_that_is_no_python_of_today_counts_and_ends_there(write: Write) -> None:
    spec = write({"spec": "def load():\n    import old\n", "old": "print 'of another time'\nimport bystander\n"})
    assert names(spec.load) == ["old.py", "spec.py"]


@pytest.mark.filterwarnings("error")
def test_what_python_warns_of_counts_with_what_it_imports_where_warnings_are_errors(write: Write) -> None:
    network = "def same(x):\n    return x is 1\nimport layers\n"
    spec = write({"spec": "def load():\n    import network\n", "network": network, "layers": ""})
    assert names(spec.load) == ["layers.py", "network.py", "spec.py"]


def test_what_another_thread_parses_meanwhile_does_not_end_it_and_is_not_ended_by_it(write: Write) -> None:
    """As a traceback that is printed does, to find its carets; that it happens in between is made certain here."""
    spec = write({"spec": "def load():\n    import network\n", "network": "x = [1, [2, [3, [4]]]]\n" * 2_000})
    parsed = 0

    def meanwhile(phase: str, _: object) -> None:
        nonlocal parsed
        ast.parse("x = [1, [2, [3]]]")
        parsed += 1

    before = gc.get_threshold()
    gc.set_threshold(5)
    gc.callbacks.append(meanwhile)
    try:
        found = names(spec.load)
    finally:
        gc.callbacks.remove(meanwhile)
        gc.set_threshold(*before)
    assert found == ["network.py", "spec.py"]
    assert parsed > 100


def test_what_is_found_does_not_depend_on_what_a_loader_adds_to_the_search_path(write: Write, tmp_path: Path) -> None:
    spec = write({"spec": "import sys\ndef load():\n    sys.path.insert(0, HIDDEN)\n    import hidden_away\n"})
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "hidden_away.py").write_text("")
    search, spec.HIDDEN = tuple(sys.path), str(tmp_path / "deeper")
    made = made_of(spec.load, search)
    before = code_of((made,), search)
    spec.load()
    assert code_of((made,), search) == before and list(before.files) == ["spec.py"]


# ------------------------------------------------------------------------------------------------------ whatever it is

KINDS = """
import dataclasses, functools
import torch
from decorators import keeps_name, loses_name
from factory import made_with

def plain(outputs, targets): ...
by_lambda = lambda outputs, targets: 1
decorated = keeps_name(plain)
disguised = loses_name(plain)
gradless = torch.no_grad()(plain)
cached = functools.cache(plain)
partial = functools.partial(plain, targets=3)
made = made_with(32)

class Called:
    def __call__(self, outputs, targets): ...
    def method(self): ...

@dataclasses.dataclass(frozen=True)
class Frozen:
    width: int = 3
    of: object = plain
    def __call__(self): ...

called, method, frozen = Called(), Called().method, Frozen()
"""
DECORATORS = """
import functools

def keeps_name(function):
    @functools.wraps(function)
    def around(*arguments):
        return function(*arguments)
    return around

def loses_name(function):
    return lambda *arguments: function(*arguments)
"""


@pytest.fixture
def kinds(write: Write) -> Any:
    factory = "def made_with(width):\n    def made():\n        return width\n    return made\n"
    return write({"kinds": KINDS, "decorators": DECORATORS, "factory": factory})


@pytest.mark.parametrize(
    "name",
    ["plain", "by_lambda", "disguised", "decorated", "gradless", "cached", "partial", "Called", "called", "method"],
)
def test_whatever_a_thing_is_the_file_that_defines_it_counts(name: str, kinds: Any) -> None:
    assert names(getattr(kinds, name)) == ["decorators.py", "factory.py", "kinds.py"]
    assert names(Measure(getattr(kinds, name))) == ["decorators.py", "factory.py", "kinds.py"]


def test_what_a_thing_was_made_with_counts_where_it_stands_in_another_file(kinds: Any) -> None:
    assert names(kinds.made) == ["factory.py"]
    assert [text for text in code(kinds.made).settings if "32" in text]
    assert not code(kinds.plain).settings and not code(kinds.Called).settings
    assert code(functools.partial(kinds.plain, 4)) != code(functools.partial(kinds.plain, 3))
    assert code(kinds.Frozen(width=4)) != code(kinds.Frozen(width=5))
    assert code(kinds.Frozen(of=kinds.made)).files.keys() == {"decorators.py", "factory.py", "kinds.py"}


def test_what_others_provide_is_left_out_but_tells_its_version_where_it_is_the_thing_itself() -> None:
    assert code(top1) == Code({}, ())
    assert code(Measure(top1)).files == {}
    linear = code(torch.nn.Linear)
    assert list(linear.files) == ["torch/nn/modules/linear.py"]
    assert linear.settings == (f"torch {torch.__version__}",)


def test_a_thing_that_no_file_defines_is_told() -> None:
    console = InteractiveInterpreter({"__name__": "__main__"})
    console.runsource("def typed(): ...\n", symbol="exec")
    for thing in (console.locals["typed"], functools.partial(console.locals["typed"]), len):
        with pytest.raises(LookupError, match=r"typed|len"):
            code(thing)
