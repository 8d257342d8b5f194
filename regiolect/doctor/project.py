"""What is the user's own: policies, models, and the folder that everything is written to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from regiolect.doctor.finding import Finding, note, ok, told, wrong
from regiolect.errors import InvalidModelSpec, RegiolectError
from regiolect.host.room import LEAST_FREE
from regiolect.planning import load_model_spec
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.policy.elsewhere import folder_option, folder_with
from regiolect.report.words import counted
from regiolect.settings import PROJECT_FILE, Settings

_MIB = 1 << 20


def settings_file() -> Iterator[Finding]:
    """The file that the settings were read from, if there is one."""
    file = os.environ.get(PROJECT_FILE)
    if file:
        yield ok("settings", "a project's file with settings that there are", file)


def policies(book: PolicyBook) -> Iterator[Finding]:
    """Every policy that is unusable, or one finding that all are valid."""
    regions = book.regions()
    usable = 0
    for region in regions:
        try:
            book.load(region)
        except RegiolectError as error:
            yield told(f"policy of {region}", error)
        else:
            usable += 1
    if usable == len(regions):
        found = f"{counted(usable, 'region')}: {', '.join(regions)}"
        yield ok("policies", f"valid policies in {book.folder}", found)


def named_regions(book: PolicyBook, regions: Sequence[str]) -> Iterator[Finding]:
    """Those of `regions` that have no policy."""
    for region in regions:
        if region not in book.regions():
            try:
                book.load(region)
            except RegiolectError as error:
                yield told(f"region {region}", error)


def usable_policies(book: PolicyBook) -> tuple[RegionPolicy, ...]:
    """Those that can be read."""
    usable = []
    for region in book.regions():
        try:
            usable.append(book.load(region))
        except (RegiolectError, OSError):
            continue
    return tuple(usable)


def no_models() -> Iterator[Finding]:
    yield note(
        "models",
        expected="models that nightlies release and that forms offer",
        found="none is known: no entry point of group regiolect.models, nothing in regiolect.toml or REGIOLECT_MODELS",
        remedy='model = "package.module:NAME" in regiolect.toml (a model can be released by its address without that)',
    )


def model(address: str, usable: Sequence[RegionPolicy]) -> Iterator[Finding]:
    """Whether a model's spec loads, and fits the policies of the regions that it has data of.

    Raises:
        UnknownModel, InvalidModelSpec: it does not load.
    """
    name, spec = f"model {address}", load_model_spec(address)
    wanted = {policy.region: policy for policy in usable}
    both = sorted(spec.data.keys() & wanted.keys())
    expected = f"a ModelSpec at {address} with data of a region that has a policy"
    if usable and not both:
        yield wrong(
            name,
            expected,
            found=f"data: {', '.join(sorted(spec.data)) or 'none'}; policies: {', '.join(wanted)}",
            remedy=f"name the folder of the policies: {folder_option(folder_with(spec.data))}; or write a policy for "
            "one of the model's regions, or add data for one of the policies' regions",
        )
        return
    unfit = False
    for region in both:
        try:
            spec.metric_source(wanted[region].accuracy.metric)
        except InvalidModelSpec as error:
            unfit = True
            yield told(f"{name} in {region}", error)
    if not unfit:
        without = [region for region in wanted if region not in spec.data]
        rest = f"; none of {', '.join(without)}" if without else ""
        yield ok(name, expected, f"{spec.name}, with data of {', '.join(sorted(spec.data)) or 'no region'}{rest}")


def home(settings: Settings) -> Iterator[Finding]:
    """Whether everything that is not said otherwise can be written, and has room."""
    yield _folder("home", settings.home, "REGIOLECT_HOME")
    prefect = Path(os.environ["PREFECT_HOME"]).expanduser().absolute()
    if not prefect.is_relative_to(settings.home):
        yield _folder("Prefect's home", prefect, "PREFECT_HOME")


def _folder(name: str, folder: Path, variable: str) -> Finding:
    expected = f"to write {folder}, with at least {LEAST_FREE // _MIB} MiB free"
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"?")
        free = shutil.disk_usage(there).free
    except OSError as error:
        return wrong(
            name,
            expected,
            found=f"{there}: {error.strerror or error} ({type(error).__name__})",
            remedy=f"mend its permissions or free space, or choose another place with {variable}",
        )
    state = f"{folder}{'' if there == folder else ' (made when it is needed)'}, {free // _MIB:,} MiB free"
    if free < LEAST_FREE:
        return wrong(name, expected, state, remedy=f"free space, or choose another place with {variable}")
    return ok(name, expected, state)
