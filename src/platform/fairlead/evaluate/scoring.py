"""A model's metrics with their intervals, and the paired difference of two models on the same rows."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.evaluate.intervals import (
    auc_difference,
    auc_interval,
    bootstrap,
    bootstrap_interval,
    clopper_pearson,
)
from fairlead.evaluate.metrics import METRICS, RANGES, Scored, proportion, statistic, undefined
from fairlead.records.evaluation import MetricValue
from fairlead.records.evidence import Interval


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: their level, the number of resamples, the seed."""

    level: float = 0.95
    resamples: int = 200
    seed: int = 7

    def at_level(self, level: float) -> "Resampling":
        """The same at another level."""
        return Resampling(level, self.resamples, self.seed)

    def seeds(self, about: str) -> tuple[int, int]:
        """The seed of the resamples of one set of rows, named `about`: sets do not share their luck."""
        return self.seed, zlib.crc32(about.encode())


@dataclass(frozen=True)
class Difference:
    """Metric of the model minus metric of the other one, on the same rows. `value` None: `why` says what is missing."""

    value: float | None
    interval: Interval | None
    why: str = ""


def measure(
    rows: Scored, how: Resampling, slice_name: str = "", names: Sequence[str] | None = None
) -> dict[str, MetricValue]:
    """Every metric of the task (or only `names`), with intervals. Never raises for what the rows are: a metric that
    has no value on them says why."""
    names = METRICS[rows.task] if names is None else names
    whys = {name: undefined(name, rows) for name in names}
    points = {name: _point(name, rows) for name in names if not whys[name]}
    sampled = [n for n in points if (n != "auc" or rows.weights is not None) and proportion(n, rows) is None]
    draws = bootstrap([statistic(name, rows) for name in sampled], len(rows), how.resamples, how.seeds(slice_name))
    found: dict[str, MetricValue] = {}
    for name in names:
        if whys[name]:
            found[name] = MetricValue(name, None, None, len(rows), slice_name, whys[name])
        elif name in sampled:
            interval = bootstrap_interval(points[name], draws[:, sampled.index(name)], how.level, RANGES[name])
            why = "" if interval else "no interval: too many resamples leave the metric undefined"
            found[name] = MetricValue(name, points[name], interval, len(rows), slice_name, why)
        else:
            found[name] = MetricValue(name, points[name], _exact(name, rows, how.level), len(rows), slice_name)
    return found


def difference(name: str, model: Scored, other: Scored, how: Resampling, about: str = "") -> Difference:
    """Metric `name` of `model` minus that of `other`, with a paired interval: DeLong's for the AUC, else a bootstrap
    that draws the same rows for both. The intervals of the two alone say less, because the same rows are hard for
    both."""
    for whose, rows in (("the model", model), ("the other one", other)):
        why = undefined(name, rows)
        if why:
            return Difference(None, None, f"{name} of {whose} is not available: {why}")
    if name == "auc" and model.weights is None:
        value, interval = auc_difference(model.scores, other.scores, model.labels, how.level)
        return Difference(value, interval)
    value = _point(name, model) - _point(name, other)
    pair = [statistic(name, model), statistic(name, other)]
    draws = bootstrap(pair, len(model), how.resamples, how.seeds(about))
    low, high = RANGES[name]
    paired = bootstrap_interval(value, draws[:, 0] - draws[:, 1], how.level, (low - high, high - low))
    return Difference(value, paired, "" if paired else "no interval: too many resamples leave the metric undefined")


def differences(model: Scored, other: Scored, how: Resampling) -> dict[str, MetricValue]:
    """`difference` for every metric of the task, from one set of resamples."""
    names = METRICS[model.task]
    whys = {name: undefined(name, model) or undefined(name, other) for name in names}
    sampled = [name for name in names if not whys[name] and (name != "auc" or model.weights is not None)]
    bound = [statistic(name, rows) for name in sampled for rows in (model, other)]
    draws = bootstrap(bound, len(model), how.resamples, how.seeds("")) if sampled else np.empty((0, 0))
    found: dict[str, MetricValue] = {}
    for name in names:
        if whys[name]:
            found[name] = MetricValue(name, None, None, len(model), why=whys[name])
        elif name == "auc" and model.weights is None:
            value, interval = auc_difference(model.scores, other.scores, model.labels, how.level)
            found[name] = MetricValue(name, value, interval, len(model))
        else:
            value, column, (low, high) = (
                _point(name, model) - _point(name, other),
                2 * sampled.index(name),
                RANGES[name],
            )
            paired = bootstrap_interval(
                value, draws[:, column] - draws[:, column + 1], how.level, (low - high, high - low)
            )
            found[name] = MetricValue(name, value, paired, len(model))
    return found


def _point(name: str, rows: Scored) -> float:
    exact = proportion(name, rows)
    if exact is not None:
        return exact[0] / exact[1]
    if name == "auc" and rows.weights is None:
        # The statistic sums in another order than DeLong's; the point must be the very number that the interval is of.
        return auc_interval(rows.scores, rows.labels, 0.95)[0]
    return float(statistic(name, rows).at(np.ones((1, len(rows))))[0])


def _exact(name: str, rows: Scored, level: float) -> Interval:
    counted = proportion(name, rows)
    if counted is not None:
        return clopper_pearson(*counted, level)
    return auc_interval(rows.scores, rows.labels, level)[1]
