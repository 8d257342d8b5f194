"""The suites run with Great Expectations: silent, in memory, one context per process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

import great_expectations as gx
import pandas as pd
import yaml
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from data_checks.frame import has_images, region_frame, sample_frame
from regiolect.contracts import CheckResult, RegionDataset, Split, ValidatedCalibration
from regiolect.data import read_samples
from regiolect.errors import DataCheckFailed
from regiolect.ingest import require_labels
from regiolect.storage import Store

_NAMED = 5  # samples named in an observation
_FORMAT = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": _NAMED,
    "unexpected_index_column_names": ["id"],
}
# A context keeps a registry of data sources and engines that Great Expectations does not promise to guard.
_LOCK = threading.Lock()


def run_checks(dataset: RegionDataset, store: Store, minimum: Mapping[Split, int]) -> ValidatedCalibration:
    """What `data_checks.validate_calibration` promises."""
    frames: dict[Split, pd.DataFrame] = {}
    needs: dict[Split, set[str]] = {}
    for split in Split:
        samples = read_samples(store.path_of(getattr(dataset, split.value).blob))
        if dataset.classes is not None:
            require_labels(samples, dataset.region, split)
        frames[split] = sample_frame(samples)
        needs[split] = {"labels"} if dataset.classes is not None else set()
        if has_images(samples):
            needs[split].add("images")

    checks: list[CheckResult] = []
    remedies: dict[str, None] = {}
    with _LOCK:
        for split, frame in frames.items():
            parameters = _parameters(dataset, minimum[split])
            checks += _run("set", frame, split, parameters, needs[split], remedies)
        checks += _run("region", region_frame(frames), "all", {}, set(), remedies)

    failed = [check for check in checks if not check.passed]
    if failed:
        error = DataCheckFailed(
            expected=f"of region {dataset.region!r}: " + "; ".join(_line(check, check.expected) for check in failed),
            found="; ".join(_line(check, check.observed) for check in failed),
            remedy="; ".join(remedies),
        )
        error.checks = tuple(checks)
        raise error
    return ValidatedCalibration(dataset=dataset, checks=tuple(checks))


def _line(check: CheckResult, text: str) -> str:
    where = "all sets" if check.split == "all" else f"{check.split} set"
    return f"{check.expectation} ({where}): {text}"


def _parameters(dataset: RegionDataset, minimum: int) -> dict[str, Any]:
    classes = dataset.classes or 0
    return {
        "region": dataset.region,
        "regions": [dataset.region],
        "minimum": minimum,
        "labels": list(range(classes)),
        "last_label": classes - 1,
        "mean_low": dataset.declared.mean[0],
        "mean_high": dataset.declared.mean[1],
        "std_low": dataset.declared.std[0],
        "std_high": dataset.declared.std[1],
    }


@functools.cache
def _batches() -> Any:
    """Where a frame becomes a batch. The context keeps everything in memory and sends nothing."""
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        ),
    )
    asset = context.data_sources.add_pandas("samples").add_dataframe_asset("samples")
    return asset.add_batch_definition_whole_dataframe("samples")


@functools.cache
def _entries(name: str) -> tuple[dict[str, Any], ...]:
    text = resources.files("data_checks").joinpath("expectations", f"{name}.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text))


def _run(
    name: str,
    frame: pd.DataFrame,
    split: Split | Literal["all"],
    parameters: dict[str, Any],
    needs: set[str],
    remedies: dict[str, None],
) -> list[CheckResult]:
    """Run one suite on one frame; what would mend a failure is added to `remedies`."""
    entries = [entry for entry in _entries(name) if entry["meta"].get("needs", "") in {"", *needs}]
    suite = gx.ExpectationSuite(name=name, expectations=entries)
    batch = _batches().get_batch(batch_parameters={"dataframe": frame})
    outcome = batch.validate(suite, result_format=_FORMAT, expectation_parameters=parameters)
    # Results come in an order of their own, and one that did not come has not passed.
    results = {result.expectation_config.meta["name"]: result for result in outcome.results}
    checks = []
    for entry in entries:
        meta, result = entry["meta"], results.get(entry["meta"]["name"])
        passed = result is not None and result.success is True
        if not passed:
            remedies[meta["remedy"]] = None
        checks.append(
            CheckResult(
                expectation=meta["name"],
                split=split,
                passed=passed,
                expected=meta["expected"].format(**parameters),
                observed="not evaluated" if result is None else _observed(result, entry["kwargs"].get("column", "")),
            )
        )
    return checks


def _observed(result: Any, column: str) -> str:
    """What an expectation saw, in words; the first few samples that broke it by id."""
    outcome = result.result
    if "unexpected_count" in outcome:
        total, count = outcome["element_count"], outcome["unexpected_count"]
        if not count:
            return f"true of all {total} samples"
        rows = outcome["partial_unexpected_index_list"]
        plain = column in {"id", "content"}
        named = dict.fromkeys(row["id"] if plain else f"{row['id']} ({_number(row[column])})" for row in rows)
        return f"{count} of {total} samples: {', '.join(named)}" + (", ..." if count > len(rows) else "")
    if "missing_count" in outcome:
        count, first = outcome["missing_count"], outcome["partial_missing_list"]
        if not count:
            return "none missing"
        return f"missing {', '.join(map(str, first))}" + (", ..." if count > len(first) else "")
    if "observed_value" in outcome:
        return _number(outcome["observed_value"])
    return f"not evaluated: {_exception(result.exception_info)}"


def _number(value: object) -> str:
    if value is None:
        return "no usable value"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _exception(info: Mapping[str, Any]) -> str:
    """The message of the first exception, which is kept either directly or under a metric's name."""
    for part in (info, *info.values()):
        if isinstance(part, Mapping) and part.get("exception_message"):
            return str(part["exception_message"])
    return "no reason given"
