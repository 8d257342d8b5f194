"""What can be loaded from a registry: every version that an alias points at, or every version there is."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from regiolect.registry.aliases import CHAMPION
from regiolect.registry.promotions import has_promotions, require_promotion, tag_of
from regiolect.registry.versions import BUNDLE, artifacts_at
from regiolect.signing.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.store.entities import PagedList

T = TypeVar("T")
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
    """
    models = {
        model.name: model
        for model in _pages(client.search_registered_models)
        if (model.name in names if names else _is_ours(model, regions))
    }
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


@contextmanager
def bundle_at(source: str, tracking_uri: str) -> Iterator[Path]:
    """A version's bundle in a folder to read from while the block lasts: in its place where that is a local folder."""
    where = urlparse(source)
    if where.scheme in ("", "file"):
        yield Path(url2pathname(where.path)) / BUNDLE
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(artifacts_at(source, tracking_uri).download_artifacts(BUNDLE, scratch))


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
