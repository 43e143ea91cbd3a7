"""Training tables with one leak at a known place; see planted_worlds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from planted_worlds import CATEGORIES, ENTITY, LABEL, NUMBERS, ROWS, TIME, Case, Table, World, to_arrow

Plant = Callable[[World, Table], tuple[tuple[str, ...], dict[str, Any]]]
_RANDOM: dict[str, Any] = {"split": {"by": "random"}}
_BY_TIME: dict[str, Any] = {"split": {"by": "time"}, "time": TIME}


def _added(name: str, make: Callable[[World, Table], Any], data: dict[str, Any] | None = None) -> Plant:
    def plant(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
        table[name] = make(world, table)
        return (name,), data or _RANDOM

    return plant


def _copy(world: World, table: Table) -> Any:
    return table[LABEL] + world.rng.normal(0, 0.3, len(table[LABEL]))


def _with_the_label(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Orders that were never closed have neither a label nor a closing cost."""
    known = world.rng.random(len(table[LABEL])) > 0.1
    table["closing_cost"] = np.where(known, world.rng.gamma(2, 5, len(known)), np.nan)
    table[LABEL] = pa.array(table[LABEL], mask=~known)
    return ("closing_cost",), _RANDOM


def _refund(world: World, table: Table) -> Any:
    written = np.asarray(table[LABEL]) & (world.rng.random(len(table[LABEL])) < 0.3)
    return np.where(written, world.rng.gamma(2, 20, len(written)), np.nan)


def _two_times(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    count = len(table[LABEL])
    planned = world.rng.normal(1000, 300, count)
    table["planned_min"] = planned
    table["actual_min"] = planned + np.where(table[LABEL], 25, 0) + world.rng.normal(0, 8, count)
    return ("actual_min", "planned_min"), _RANDOM


def _halves(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    count = len(table[LABEL])
    first = world.rng.integers(0, 2, count)
    flip = world.rng.random(count) < 0.03
    table["flag_a"] = np.array(["u", "v"])[first]
    table["flag_b"] = np.array(["s", "t"])[np.asarray(table[LABEL]).astype(int) ^ first ^ flip]
    return ("flag_a", "flag_b"), _RANDOM


def _too_late(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    count = len(table[LABEL])
    table["survey"] = world.rng.normal(0, 1, count)
    table["survey_at"] = table[TIME] + world.rng.integers(1, 30, count) * np.timedelta64(86_400_000_000, "us")
    return ("survey",), {**_BY_TIME, "leaks": {"known_at": {"survey": "survey_at"}}}


def _identifier(world: World, table: Table) -> Any:
    return np.array([f"inv-{i:07d}" for i in world.rng.permutation(len(table[LABEL])) + 100_000])


def _running_number(world: World, table: Table) -> Any:
    return np.argsort(np.argsort(table[TIME])) * 3.0 + world.rng.integers(0, 3, len(table[TIME]))


def _entities(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    """All rows of a customer have one label."""
    names, inverse = np.unique(table[ENTITY], return_inverse=True)
    table[LABEL] = (world.rng.random(len(names)) < 0.35)[inverse]
    return (ENTITY,), {"entity": ENTITY, "split": {"by": "random"}}


def _repeat(table: Table, take: np.ndarray) -> None:
    for name in table:
        table[name] = np.asarray(table[name])[take]


def _copies(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The same rows again under other customers."""
    count = len(table[LABEL])
    _repeat(table, np.concatenate([np.arange(count), world.rng.integers(0, count, count // 8)]))
    table[ENTITY] = np.concatenate([table[ENTITY][:count], [f"d{i}" for i in range(count // 8)]])
    return (ROWS,), {"entity": ENTITY, "split": {"by": "group"}}


def _near_copies(world: World, table: Table) -> tuple[tuple[str, ...], dict[str, Any]]:
    count = len(table[LABEL])
    _repeat(table, np.concatenate([np.arange(count), world.rng.integers(0, count, count // 8)]))
    again = np.arange(len(table[LABEL])) >= count
    table["amount"] = np.where(
        again, np.asarray(table["amount"]) * world.rng.uniform(0.5, 2, len(again)), table["amount"]
    )
    return (ROWS,), _RANDOM


def _scaled(world: World, table: Table) -> Any:
    values = np.nan_to_num(np.asarray(table["score"], np.float64)) + 3
    return (values - values.mean()) / values.std()


def _filled(world: World, table: Table) -> Any:
    values = world.rng.gamma(3, 4, len(table[LABEL]))
    gone = world.rng.random(len(values)) < 0.08
    return np.where(gone, values[~gone].mean(), values)


def _encoded(prior: float) -> Callable[[World, Table], Any]:
    def make(world: World, table: Table) -> Any:
        shops = world.rng.integers(0, len(table[LABEL]) // 12, len(table[LABEL]))
        label = np.asarray(table[LABEL], np.float64)
        counts = np.bincount(shops)
        means = (np.bincount(shops, label) + prior * label.mean()) / np.maximum(counts + prior, 1e-9)
        return means[shops]

    return make


LEAKS: dict[str, Plant] = {
    "a noisy copy of the label": _added("outcome_hint", _copy),
    "missing where the label is missing": _with_the_label,
    "written by the outcome": _added("refund", _refund),
    "two times whose difference is the label": _two_times,
    "two halves of a key": _halves,
    "known after the event (declared)": _too_late,
    "identifier": _added("invoice", _identifier),
    "running number in a split by time": _added("sequence", _running_number, _BY_TIME),
    "entity on both sides": _entities,
    "copies under another entity": _copies,
    "near copies across a random split": _near_copies,
    "scaled before the split": _added("scaled", _scaled),
    "filled before the split": _added("filled", _filled),
    "target encoding without folds": _added("shop_rate", _encoded(0.0)),
    "target encoding with a prior": _added("shop_rate", _encoded(20.0)),
}
# Fifteen kinds here and 28 in WINDOWS, of which these are variants of one kind each.
VARIANTS = ("target encoding with a prior", "column all missing", "misspelt categories")


def planted_leak(kind: str, seed: int, rows: int) -> Case:
    """A training table with one leak."""
    world = World(seed, rows)
    table = world.table(0, 112)
    before = set(table)
    places, data = LEAKS[kind](world, table)
    new = [name for name in table if name not in before and not name.endswith("_at")]
    words = [name for name in new if np.asarray(table[name]).dtype.kind in "UO"]
    return Case(
        kind, "leak", "training", seed, places, training=to_arrow(table), data=data,
        numeric=(*NUMBERS, *world.noise, *(name for name in new if name not in words)),
        categorical=(*CATEGORIES, *words),
    )  # fmt: skip
