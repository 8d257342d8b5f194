"""What a registered version says of itself in its tags, and what is read back from them. Knows nothing of MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from regiolect.bundle.manifest import BundleManifest
from regiolect.contracts import UNITS, ApprovedEngine, Arithmetic, Published, RegisteredEngine
from regiolect.errors import RegistryError
from regiolect.identity.tuning import tuning_digest

_BETWEEN, _NONE = ", ", "none"
_LONGEST = 1000  # characters of a tag; MLflow takes a few thousand
_LONGEST_DESCRIPTION = 5000


def tunings_of(manifest: BundleManifest) -> tuple[str | None, ...]:
    """`tuning_digest` of each engine; empty if none was tuned."""
    digests = tuple(map(tuning_digest, manifest.engines))
    return digests if any(digests) else ()


def arithmetics_of(manifest: BundleManifest) -> tuple[Arithmetic | None, ...]:
    """Class of arithmetic of each engine; empty if none has one."""
    classes = tuple(approved.engine.request.arithmetic for approved in manifest.engines)
    return classes if any(classes) else ()


def labels(manifest: BundleManifest, digest: str) -> dict[str, str]:
    """What a registered version says of itself. Values of several engines stand in the order of `targets`."""

    def each(value: Callable[[ApprovedEngine], object]) -> str:
        return _BETWEEN.join(str(value(approved)) for approved in manifest.engines)

    tuned = {"tuning": each(lambda approved: tuning_digest(approved) or _NONE)} if tunings_of(manifest) else {}
    classes = arithmetics_of(manifest)
    classed = {"arithmetic": _BETWEEN.join(_NONE if of is None else of.value for of in classes)} if classes else {}
    return {
        **tuned,
        **classed,
        "model": manifest.model,
        "region": manifest.region,
        "title": manifest.title,
        "policy": manifest.policy,
        "bundle": digest,
        "targets": each(lambda approved: approved.engine.request.target.name),
        "backend": each(lambda approved: f"{approved.engine.request.target.backend} {approved.engine.backend_version}"),
        "precision": each(lambda approved: approved.engine.request.precision.value),
        "executed": each(lambda approved: approved.attestation.summary()),
        "calibration": each(lambda approved: approved.engine.calibration or "none"),
        "build_key": each(lambda approved: approved.engine.request.build_key),
        "decision": each(lambda approved: approved.decision.verdict.value),
        "metric": each(lambda approved: approved.decision.metric),
        "unit": each(lambda approved: approved.decision.unit.value),
        "loss": each(lambda approved: approved.decision.loss),
        "loss_upper": each(lambda approved: approved.decision.loss_upper),
        "threshold": each(lambda approved: approved.decision.threshold),
        "confidence": each(lambda approved: approved.decision.confidence),
    }


def notes(published: Published) -> dict[str, str | None]:
    """What a version says of itself beside the one that was served when it was registered; None: nothing of that."""
    against = {
        f"against.{each.slot}": each.reason
        if each.loss is None
        else f"loss {each.loss:+z.2f}, {each.loss_lower:+z.2f} to {each.loss_upper:+z.2f} "
        f"at {100 * each.confidence:g} %, limit {each.limit:g} ({each.unit})"
        for each in published.comparisons
    }
    held = published.held
    champions = sorted({each.champion for each in published.comparisons})
    return {
        **({"against": ", ".join(champions)} if champions else {}),
        **{name: value[:_LONGEST] for name, value in against.items()},
        "held": None if held is None else f"{held.kind}: {held.found}"[:_LONGEST],
    }


def figures(manifest: BundleManifest) -> dict[str, float]:
    """What a bundle's run shows as metrics, under the same names in every run: `<slot>.loss` and the like, in the
    decision's unit; scores as they are; times in ms a round; throughput in samples a second; size in bytes."""
    values: dict[str, float] = {}
    for approved in manifest.engines:
        decision, evaluation = approved.decision, approved.evaluation
        of_engine = {
            "loss": decision.loss,
            "loss_upper": decision.loss_upper,
            "threshold": decision.threshold,
            "score": evaluation.engine_score,
            "reference_score": evaluation.reference_score,
            "speedup": evaluation.timing.speedup,
            "p50_ms": evaluation.timing.p50_ms,
            "p99_ms": evaluation.timing.p99_ms,
            "throughput": evaluation.timing.throughput,
            "size": float(approved.engine.size),
        }
        values |= {f"{approved.engine.request.slot}.{name}": value for name, value in of_engine.items()}
    return values


def description(manifest: BundleManifest) -> str:
    """What a version is, why it was approved and how it is loaded, as Markdown, for MLflow's page of it."""
    engines = [_described(approved) for approved in manifest.engines]
    load = f'`mlflow.pyfunc.load_model("models:/{manifest.name}@champion")` loads the version that is served.'
    more = f"`regiolect show {manifest.name}/NUMBER` tells more of one, `regiolect history {manifest.name}` of all."
    return "\n".join([f"{manifest.model} for {manifest.title}", "", *engines, "", f"{load} {more}"])[
        :_LONGEST_DESCRIPTION
    ]


def _described(approved: ApprovedEngine) -> str:
    request, decision, evaluation = approved.engine.request, approved.decision, approved.evaluation
    unit = UNITS[decision.unit]
    sides = f"{request.precision} through {request.target.backend}, {approved.attestation.summary()} kernels"
    bound = f"at most {decision.loss_upper:+z.2f} at {100 * decision.confidence:g} %, limit {decision.threshold:g}"
    scores = f"{100 * evaluation.reference_score:.2f} to {100 * evaluation.engine_score:.2f} %"
    return (
        f"- **{request.place}**: {sides}. {decision.verdict.value.capitalize()}: {decision.metric} {scores}, loss "
        f"{decision.loss:+z.2f} {unit}, {bound}, on {evaluation.samples:,} gate samples. "
        f"{evaluation.timing.speedup:.2f}x FP32 where it was measured; {approved.engine.size / 1e6:.2f} MB."
    )


def registered_engine(name: str, version: int, champion: bool, tags: Mapping[str, str]) -> RegisteredEngine:
    """A version as its tags tell it; one that carries none of Regiolect's has no policy, targets or build keys.

    Raises:
        RegistryError: a tag was rewritten into what Regiolect never writes.
    """
    uri = f"models:/{name}/{version}"
    try:
        return RegisteredEngine.model_validate(
            {
                "name": name,
                "version": version,
                "uri": uri,
                "champion": champion,
                "policy": tags.get("policy"),
                "bundle": tags.get("bundle"),
                "targets": several(tags, "targets"),
                "build_keys": several(tags, "build_key"),
                "tunings": tuple(None if each == _NONE else each for each in several(tags, "tuning")),
                "arithmetics": tuple(None if each == _NONE else each for each in several(tags, "arithmetic")),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise RegistryError(
            expected=f"the tags of {uri} as they were written at its registration",
            found=f"{first['input']!r} in {first['loc'][0]!r}",
            remedy="release the region again, and delete the version whose tags were changed",
        ) from error


def several(tags: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The values of a tag, one for each engine in the order of `targets`; none where there is no such tag."""
    return tuple(tags[name].split(_BETWEEN)) if tags.get(name) else ()


def require_owner(name: str, model: str, region: str, tags: Mapping[str, str]) -> None:
    """Raises RegistryError if a registered model is another model's or another region's.

    `fashion` in `eu-west` and `fashion-eu` in `west` have one name between them.
    """
    owner = (tags.get("model", model), tags.get("region", region))
    if owner != (model, region):
        raise RegistryError(
            expected=f"the registered model {name!r} to be that of model {model!r} in region {region!r}",
            found=f"it is that of model {owner[0]!r} in region {owner[1]!r}",
            remedy="rename one of the two models or regions, so that their registered names differ",
        )
