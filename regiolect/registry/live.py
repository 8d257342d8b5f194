"""What can be loaded from a registry: every version that an alias points at, or every version there is."""

from __future__ import annotations

import difflib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import yaml

from regiolect.errors import IntegrityError, UsageError
from regiolect.registry.aliases import CHAMPION
from regiolect.registry.promotions import has_promotions, require_promotion, tag_of
from regiolect.registry.versions import BUNDLE, LOADER, artifacts_at
from regiolect.signing.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.store.entities import PagedList

T = TypeVar("T")
_DESCRIPTION = "MLmodel"
_DEEPEST = 50  # far more than MLflow nests
# As many as MLflow hands out at once.
_PAGE = 1000


@dataclass(frozen=True)
class LiveVersion:
    """One version, as the registry tells it.

    aliases: what points at it, in alphabetical order.
    source: where its model lies.
    promotion: the envelope that is kept of it; nothing is known of who wrote that.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    source: str
    promotion: str | None

    def require_promoted(self, bundle: str, trust: Trust) -> None:
        """Raises unless it is no champion, or a release made it champion with this bundle.

        Raises:
            AliasMoved: no release did.
            UntrustedEngine: somebody did whose signature does not count here.
        """
        if CHAMPION in self.aliases:
            require_promotion(self.promotion, self.name, self.version, bundle, trust)


def live_versions(
    client: MlflowClient, names: Collection[str], regions: Collection[str], *, everything: bool
) -> Iterator[LiveVersion]:
    """Versions by name and number.

    A registered model is taken for Regiolect's by its tags, by a promotion, or by a name that ends like one: whoever
    hides one of them hides nothing.

    Args:
        names: registered models; none: all that are Regiolect's.
        regions: regions that there are policies for.
        everything: also versions that no alias points at.

    Raises:
        UsageError: there is no registered model of one of these names.
    """
    there = {model.name: model for model in _pages(client.search_registered_models)}
    models = {name: model for name, model in there.items() if (name in names if names else _is_ours(model, regions))}
    absent = sorted(set(names) - models.keys())
    if absent:
        near = difflib.get_close_matches(absent[0], list(there), n=1)
        raise UsageError(
            expected=f"registered models {', '.join(sorted(names))}",
            found=f"none called {', '.join(map(repr, absent))}",
            remedy=f"did you mean {near[0]!r}?" if near else "name them MODEL-REGION; without a name all are looked at",
        )
    numbers: dict[str, list[ModelVersion]] = defaultdict(list)
    for version in _pages(client.search_model_versions):
        numbers[version.name].append(version)
    for name, model in sorted(models.items()):
        aliases = defaultdict(list)
        for alias, number in model.aliases.items():
            aliases[int(number)].append(alias)
        for found in sorted(numbers[name], key=lambda each: int(each.version)):
            number = int(found.version)
            if everything or number in aliases:
                pointing = tuple(sorted(aliases[number]))
                yield LiveVersion(name, number, pointing, str(found.source), model.tags.get(tag_of(number)))


@dataclass(frozen=True)
class Stored:
    """Where a version's files can be read.

    description: MLflow's own file on the model, which it obeys when it loads one.
    """

    description: Path
    bundle: Path


@contextmanager
def stored_at(source: str, tracking_uri: str) -> Iterator[Stored]:
    """A version's files, to read from while the block lasts: in their place where that is a local folder."""
    where = urlparse(source)
    if where.scheme in ("", "file"):
        folder = Path(url2pathname(where.path))
        yield Stored(folder / _DESCRIPTION, folder / BUNDLE)
        return
    artifacts = artifacts_at(source, tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        yield Stored(*(Path(artifacts.download_artifacts(each, scratch)) for each in (_DESCRIPTION, BUNDLE)))


def require_loader(description: Path) -> None:
    """Raises IntegrityError unless MLflow loads a version by Regiolect's own loader, from its bundle, and no code of
    the version's: loading cannot notice, for MLflow obeys the file before anybody is asked."""
    wanted = {"flavors": ["python_function"], "loader_module": LOADER, "data": BUNDLE, "code": None}
    try:
        flavors = _read(description.read_bytes())["flavors"]
        pyfunc = flavors["python_function"]
        found = {"flavors": list(flavors), **{name: pyfunc.get(name) for name in ("loader_module", "data", "code")}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise _unlike(wanted, f"a file that tells none of that ({type(error).__name__})") from error
    if found != wanted:
        raise _unlike(wanted, ", ".join(f"{name} {found[name]!r}" for name in wanted if found[name] != wanted[name]))


def _read(data: bytes) -> Any:
    """What YAML says, read in a tenth of the time that Python's own reader takes."""
    # Not every PyYAML has libyaml, which goes into what is nested until the stack ends.
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(data, Loader=reader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
    loader = reader(data)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _unlike(wanted: Mapping[str, object], found: str) -> IntegrityError:
    return IntegrityError(
        expected=f"an {_DESCRIPTION} by which MLflow loads {', '.join(f'{k} {v!r}' for k, v in wanted.items())}",
        found=found[:300],
        remedy="do not load this version: MLflow would run what it names; delete it, and release the region again",
    )


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
