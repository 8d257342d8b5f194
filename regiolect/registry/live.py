"""What can be loaded from a registry: every version that an alias points at, or every version there is."""

from __future__ import annotations

import difflib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from regiolect.bundle.manifest import MANIFEST
from regiolect.errors import UsageError
from regiolect.host.files import NOTE, RECORD
from regiolect.registry.aliases import CHAMPION, model_at
from regiolect.registry.fetching import (
    artifacts_at,
    fetch_bytes,
    fetch_folder,
    file_sizes,
    listing,
    local_folder,
    require_size,
)
from regiolect.registry.promotions import has_promotions, require_promotion, tag_of
from regiolect.registry.versions import BUNDLE
from regiolect.signing.promotion import Promotion
from regiolect.signing.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.store.entities import PagedList

T = TypeVar("T")
# As many as MLflow hands out at once.
_PAGE = 1000
_MOST_TOLD = 5


@dataclass(frozen=True)
class LiveVersion:
    """One version, as the registry tells it.

    aliases: what points at it, in alphabetical order.
    source: where its model lies; None where there is no such version, and an alias points at it all the same.
    promotion: the envelope that is kept of it; nothing is known of who wrote that.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    source: str | None
    promotion: str | None

    def require_promoted(self, bundle: str, trust: Trust) -> Promotion | None:
        """The promotion by which it was made champion with this bundle; None if it is no champion.

        Raises:
            AliasMoved: no release did.
            UntrustedEngine: somebody did whose signature does not count here.
        """
        if CHAMPION not in self.aliases:
            return None
        return require_promotion(self.promotion, self.name, self.version, bundle, trust)


def live_versions(
    client: MlflowClient,
    names: Collection[str],
    regions: Collection[str],
    *,
    everything: bool,
    promised: Collection[str] = (),
) -> Iterator[LiveVersion]:
    """Versions by name and number.

    A registered model is taken for Regiolect's by its tags, by a promotion, or by a name that ends like one: whoever
    hides one of them hides nothing.

    Args:
        names: registered models; none: all that are Regiolect's.
        regions: regions that there are policies for.
        everything: also versions that no alias points at.
        promised: names that there is a record of elsewhere: that they are registered nowhere is no usage error.

    Raises:
        UsageError: there is no registered model of one of these names.
    """
    models, numbers = registered_models(client, names, regions, promised), versions_by_name(client)
    for name, model in sorted(models.items()):
        aliases = defaultdict(list)
        for alias, number in model.aliases.items():
            aliases[int(number)].append(alias)
        sources = {int(each.version): str(each.source) for each in numbers[name]}
        for number in sorted({*sources, *aliases} if everything else aliases):
            pointing = tuple(sorted(aliases[number]))
            yield LiveVersion(name, number, pointing, sources.get(number), model.tags.get(tag_of(number)))


def registered_models(
    client: MlflowClient, names: Collection[str], regions: Collection[str], promised: Collection[str] = ()
) -> dict[str, RegisteredModel]:
    """Registered models by name; the arguments and what is raised are as of `live_versions`."""
    there = {model.name: model for model in _pages(client.search_registered_models)}
    models = {name: model for name, model in there.items() if (name in names if names else _is_ours(model, regions))}
    absent = sorted(set(names) - models.keys() - set(promised))
    if absent:
        near = difflib.get_close_matches(absent[0], list(there), n=1)
        raise UsageError(
            expected=f"registered models {', '.join(sorted(names))}",
            found=f"none called {', '.join(map(repr, absent))}",
            remedy=f"did you mean {near[0]!r}?" if near else "name them MODEL-REGION, as regiolect list tells them",
        )
    return models


def versions_by_name(client: MlflowClient) -> Mapping[str, list[ModelVersion]]:
    """Every version that there is, by the name of its registered model."""
    numbers: dict[str, list[ModelVersion]] = defaultdict(list)
    for version in _pages(client.search_model_versions):
        numbers[version.name].append(version)
    return numbers


def find_version(client: MlflowClient, name: str, which: str | int, shown: str) -> LiveVersion:
    """The version that an alias points at, or of a number.

    Args:
        shown: the registry, as an error names it.

    Raises:
        UsageError: there is none.
    """
    model = model_at(client, name)
    if model is None:
        raise nothing_called(name, which, shown, [each.name for each in _pages(client.search_registered_models)])
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    number = aliases.get(which, 0) if isinstance(which, str) else which
    source = _source_of(client, name, number) if number else None
    if not number or (source is None and number not in aliases.values()):
        there = [f"@{alias}, version {target}" for alias, target in sorted(aliases.items())]
        raise UsageError(
            expected=f"{_called(name, which)} in the registry at {shown}",
            found=f"{name} with {'; '.join(there) or 'no alias: no release of it was approved'}",
            remedy=f"load one of these, or release the region: regiolect run MODEL --regions "
            f"{model.tags.get('region', 'REGION')} says what keeps an engine from being served",
        )
    pointing = tuple(sorted(alias for alias, target in aliases.items() if target == number))
    return LiveVersion(name, number, pointing, source, model.tags.get(tag_of(number)))


def nothing_called(name: str, which: str | int, shown: str, names: Collection[str]) -> UsageError:
    """The error of a registered model that there is not, where `names` are all that there are."""
    near = difflib.get_close_matches(name, list(names), n=1)
    release = "release it first: regiolect run MODEL; or name the right registry: MLFLOW_TRACKING_URI or REGIOLECT_HOME"
    return UsageError(
        expected=f"{_called(name, which)} in the registry at {shown}",
        found=f"registered: {', '.join(sorted(names)[:_MOST_TOLD])}" if names else "no registered models",
        remedy=f"did you mean {near[0]!r}?" if near else release,
    )


def _called(name: str, which: str | int) -> str:
    return f"{name}@{which}" if isinstance(which, str) else f"{name}/{which}"


def _source_of(client: MlflowClient, name: str, version: int) -> str | None:
    """Where a version's model lies; None if there is no such version."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version(name, str(version)).source)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


@dataclass(frozen=True)
class Stored:
    """Where a version's files can be read.

    model: all of them: MLflow's own, which it obeys when it loads one, and the bundle's.
    """

    model: Path

    @property
    def bundle(self) -> Path:
        return self.model / BUNDLE


@contextmanager
def stored_at(source: str, tracking_uri: str) -> Iterator[Stored]:
    """A version's files, to read from while the block lasts: in their place where that is a local folder.

    Raises:
        UnusableFile: the store tells that a file is larger than its manifest says, or than what people write; nothing
            was copied.
        InvalidBundle: its manifest cannot be read, so that it is not known how large its files may be.
    """
    local = local_folder(source)
    if local is not None:
        yield Stored(local)
        return
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as scratch:
        manifest = f"{BUNDLE}/{MANIFEST}"
        sizes = file_sizes(fetch_bytes(source, tracking_uri, manifest, Path(first), RECORD))

        def most(path: str) -> int:
            own = PurePosixPath(path)
            return sizes.get(str(own.relative_to(BUNDLE)), RECORD) if own.is_relative_to(BUNDLE) else NOTE

        yield Stored(fetch_folder(source, tracking_uri, "", Path(scratch), most))


@contextmanager
def stored_beside(source: str, tracking_uri: str) -> Iterator[Path]:
    """What lies beside a version's bundle, to read from while the block lasts, and of the bundle nothing that has to be
    fetched for it.

    Raises:
        UnusableFile: the store tells that a file is larger than what people write.
    """
    local = local_folder(source)
    if local is not None:
        yield local
        return
    artifacts = artifacts_at(source, tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        for entry in artifacts.list_artifacts(None):
            if entry.path == PurePosixPath(BUNDLE).parts[0]:
                continue
            for name, size in listing(artifacts, entry.path) if entry.is_dir else ((entry.path, entry.file_size),):
                require_size(name, size, NOTE)
            artifacts.download_artifacts(entry.path, scratch)
        yield Path(scratch)


def _is_ours(model: RegisteredModel, regions: Collection[str]) -> bool:
    named = any(model.name.endswith(f"-{region}") for region in regions)
    return named or "region" in model.tags or has_promotions(model)


def _pages(search: Callable[..., PagedList[T]]) -> Iterator[T]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
