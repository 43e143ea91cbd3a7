"""Bounds on a batch as a whole: found beyond chance, and on the bound accused no more often than stated."""

from collections.abc import Callable

import numpy as np
import pytest

from fairlead.data.bounds import FALSE_ALARM, LEAST_ROWS, beyond_bounds, volume
from fairlead.data.schema import ColumnRule, Schema
from fairlead.data.suggestions import changed
from fairlead.records.data import ColumnStatistics, Statistics
from fairlead.spec.data import Validate

SEED = 23


def statistics(values: np.ndarray, kind: str = "float", missing: int = 0) -> Statistics:
    mean = float(values.mean())
    std = None if kind == "bool" else float(values.std())
    return Statistics(len(values), {"x": ColumnStatistics("x", kind, len(values), missing, 0, mean=mean, std=std)})


def kinds(rule: ColumnRule, found: Statistics) -> list[str]:
    return [one.kind for one in beyond_bounds({"x": rule}, found)]


def test_a_mean_far_from_its_bound_is_told_and_the_suggested_change_takes_it_away() -> None:
    values = np.random.default_rng(SEED).normal(10, 2, 1000)
    for rule, kind in (
        (ColumnRule(type="float", max_mean=9), "high_mean"),
        (ColumnRule(type="float", min_mean=11), "low_mean"),
    ):
        (found,) = beyond_bounds({"x": rule}, statistics(values))
        assert (found.kind, found.severe) == (kind, True)
        fitting = changed(Schema(columns={"x": rule}), found.change).columns["x"]
        assert kinds(fitting, statistics(values)) == []
    share = statistics(np.r_[np.ones(300), np.zeros(700)], "bool")
    assert kinds(ColumnRule(type="bool", max_mean=0.25), share) == ["high_mean"]
    assert kinds(ColumnRule(type="bool", max_mean=0.29), share) == []


@pytest.mark.parametrize(
    ("draw", "kind", "mean", "most"),
    [
        (lambda rng, size: rng.normal(5, 3, size), "float", 5.0, 35),
        (lambda rng, size: rng.random(size) < 0.2, "bool", 0.2, 35),
        (lambda rng, size: rng.exponential(2.0, size), "float", 2.0, 85),
    ],
    ids=["normal", "yes or no", "exponential"],
)
def test_a_process_on_its_bound_is_seldom_accused(
    draw: Callable[..., np.ndarray], kind: str, mean: float, most: int
) -> None:
    """20,000 batches of 400 rows, against the 99.9 % quantile of the binomial distribution with what is stated in
    docs/data-schema.md: 35 at 0.001; on the lower side of an exponential distribution, which is skewed, 85 at 0.003."""
    rng = np.random.default_rng(SEED)
    batches = draw(rng, (20_000, 400)).astype(float)
    means, stds = batches.mean(1), batches.std(1)
    low = high = 0
    for at in range(len(batches)):
        std = None if kind == "bool" else float(stds[at])
        column = ColumnStatistics("x", kind, 400, 0, 0, mean=float(means[at]), std=std)
        rule = ColumnRule.model_validate({"type": kind, "min_mean": mean, "max_mean": mean})
        told = kinds(rule, Statistics(400, {"x": column}))
        low, high = low + ("low_mean" in told), high + ("high_mean" in told)
    print(f"seed {SEED}: low {low}, high {high} of 20,000")
    assert high <= 35
    assert low <= most
    assert FALSE_ALARM == 0.001


def test_few_rows_are_not_judged_by_their_mean() -> None:
    values = np.full(LEAST_ROWS - 1, 5.0) + np.arange(LEAST_ROWS - 1) / 100
    assert kinds(ColumnRule(type="float", max_mean=1), statistics(values)) == []


def test_missing_values_beyond_their_bound_suggest_a_bound_that_holds() -> None:
    values = np.zeros(900)
    rule = ColumnRule(type="float", max_missing=0.05)
    (found,) = beyond_bounds({"x": rule}, statistics(values, missing=100))
    assert (found.kind, found.count, found.share, found.change) == (
        "missing", 100, 0.1, "columns: {x: {max_missing: 0.1}}",
    )  # fmt: skip
    assert kinds(changed(Schema(columns={"x": rule}), found.change).columns["x"], statistics(values, missing=100)) == []


@pytest.mark.parametrize(
    ("spec", "rows", "said"),
    [
        ({"min_rows": 100}, 99, "99 rows, at least 100"),
        ({"min_rows": 100}, 100, ""),
        ({"max_rows": 100}, 101, "101 rows, at most 100"),
        ({"max_rows": 100, "min_rows": 10}, 100, ""),
    ],
)
def test_the_number_of_rows_is_held_against_what_was_agreed(spec: dict[str, int], rows: int, said: str) -> None:
    found = volume(Validate.model_validate(spec), rows)
    assert [one.kind for one in found] == (["volume"] if said else [])
    assert all(said in one.what for one in found)


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="min_rows is above max_rows"):
        Validate.model_validate({"min_rows": 5, "max_rows": 4})
    with pytest.raises(ValueError, match="share from 0 to 1"):
        Validate.model_validate({"max_rejected_by": {"below_min": 2}})
    with pytest.raises(ValueError, match="no kind belowmin; did you mean below_min"):
        Validate.model_validate({"max_rejected_by": {"belowmin": 0.1}})
