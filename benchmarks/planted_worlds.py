"""Made-up data with one thing wrong at a known place: 40 kinds of anomaly, leak, skew and drift; and clean data.

A world is a shop's subscribers: two windows of the same process (`reference`, then `current`) and a labelled table to
train on. Its scales, shares, extra columns and sizes are drawn from the seed, so that no detector can fit itself to
one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

NUMBERS = (
    "amount",
    "temperature_f",
    "distance_miles",
    "duration_s",
    "age",
    "visits",
    "rate",
    "score",
    "pressure",
    "density",
    "income",
)
CATEGORIES = ("plan", "region", "device", "status")
LABEL, TIME, ENTITY, ROW = "churned", "at", "customer", "row_id"
ROWS, BATCH = "(rows)", "(batch)"
_DAY = np.timedelta64(86_400_000_000, "us")
_START = np.datetime64("2024-01-01", "us")
_REGIONS = tuple(f"r{i:02d}" for i in range(12))

Table = dict[str, Any]


@dataclass
class Case:
    """One data set. `places`: the columns (or ROWS, BATCH, the entity) where something is wrong; () when it is clean.
    `setting`: windows (reference against current) or training (one table, split as `data` says)."""

    kind: str
    family: str
    setting: str
    seed: int
    places: tuple[str, ...]
    reference: pa.Table | None = None
    current: pa.Table | None = None
    training: pa.Table | None = None
    data: dict[str, Any] = field(default_factory=dict)
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


class World:
    """One process, from which windows and training tables are drawn."""

    def __init__(self, seed: int, rows: int) -> None:
        self.rng = np.random.default_rng([seed, 20_240_101])
        rng = self.rng
        self.rows = int(rows * rng.uniform(0.7, 1.3))
        self.scale = {name: float(rng.uniform(0.6, 1.6)) for name in NUMBERS}
        self.missing = {name: float(rng.choice([0, 0, 0.01, 0.05])) for name in NUMBERS}
        self.noise = [f"x{i}" for i in range(int(rng.integers(0, 7)))]
        self.shares = {
            "plan": rng.dirichlet([6, 5, 4]),
            "region": rng.dirichlet(np.full(12, 2.0)),
            "device": rng.dirichlet([5, 5, 3, 2]),
            "status": rng.dirichlet([8, 2, 2]),
        }
        self.density, self.income = np.round(rng.gamma(2, 300, 12), 1), rng.integers(20_000, 80_000, 12)
        self.effects = rng.uniform(0.3, 0.7, 4)
        self.base = float(rng.uniform(-1.4, -0.4))

    def table(self, first_day: int, days: int, rows: int | None = None) -> Table:
        """Rows of some days as columns, label included."""
        rng, n = self.rng, rows or self.rows
        hours = rng.choice(24, n, p=_DAILY) * 3_600_000_000 + rng.integers(0, 3_600_000_000, n)
        at = _START + rng.integers(first_day, first_day + days, n) * _DAY + hours.astype("timedelta64[us]")
        scale, z = self.scale, rng.normal
        rows_a_day = 2 * self.rows // 56
        temperature = z(58, 14 * scale["temperature_f"], n)
        table: Table = {
            ROW: rng.permutation(np.arange(n)) + 100_000 + first_day * rows_a_day,
            ENTITY: np.array([f"c{i:05d}" for i in rng.integers(0, max(n // 3, 1), n)]),
            TIME: np.sort(at),
            "amount": np.round(rng.lognormal(3, 0.8 * scale["amount"], n), 2),
            "temperature_f": np.round(temperature, 1),
            "distance_miles": np.round(rng.gamma(2, 6 * scale["distance_miles"], n), 2),
            "duration_s": np.round(rng.lognormal(5.5, 0.6 * scale["duration_s"], n), 1),
            "age": rng.integers(18, 18 + int(60 * min(scale["age"], 1.2)), n),
            "visits": rng.poisson(3 * scale["visits"], n),
            "rate": rng.beta(2, 5 * scale["rate"], n),
            "score": z(0, scale["score"], n),
            "pressure": z(1013, 8 * scale["pressure"], n) - 0.5 * (temperature - 58),
            "plan": rng.choice(["basic", "plus", "pro"], n, p=self.shares["plan"]),
            "region": rng.choice(_REGIONS, n, p=self.shares["region"]),
            "device": rng.choice(["android", "ios", "web", "tv"], n, p=self.shares["device"]),
            "status": rng.choice(["active", "paused", "new"], n, p=self.shares["status"]),
        }
        # What a region has, as joined tables bring it: columns that depend on each other altogether.
        of_region = np.searchsorted(np.array(_REGIONS), table["region"])
        table["density"], table["income"] = self.density[of_region], self.income[of_region]
        for i, name in enumerate(self.noise):
            table[name] = rng.standard_t(4, n) if i % 3 else rng.integers(0, 8, n)
        a, b, c, d = self.effects
        logit = (
            self.base
            + a * (np.log(table["amount"]) - 3)
            - b * (table["visits"] / (3 * scale["visits"]) - 1)
            + c * (table["plan"] == "basic")
            + d * table["score"] / scale["score"]
        )
        table[LABEL] = rng.random(n) < 1 / (1 + np.exp(-logit))
        for name, share in self.missing.items():
            if share:
                table[name] = np.where(rng.random(n) < share, np.nan, np.asarray(table[name], np.float64))
        return table

    def windows(self) -> tuple[Table, Table]:
        """Eight weeks, and the eight weeks after them."""
        return self.table(0, 56), self.table(56, 56)


_DAILY = np.array([1, 1, 1, 1, 1, 2, 3, 5, 8, 9, 8, 7, 7, 6, 6, 6, 7, 8, 9, 9, 7, 5, 3, 2], np.float64)
_DAILY /= _DAILY.sum()


def to_arrow(table: Table) -> pa.Table:
    """NaN becomes missing."""
    return pa.table({k: v if isinstance(v, pa.Array) else pa.array(v, from_pandas=True) for k, v in table.items()})


# --- clean data ------------------------------------------------------------------------------------------------------
def clean(seed: int, rows: int) -> tuple[Case, Case]:
    """Two windows of one process, and a table to train on, split at random, by time or by group."""
    world = World(seed, rows)
    reference, current = world.windows()
    numeric = (*NUMBERS, *world.noise)
    windows = Case(
        "clean", "clean", "windows", seed, (), to_arrow(reference), to_arrow(current),
        numeric=numeric, categorical=CATEGORIES,
    )  # fmt: skip
    split = ("random", "time", "group", "stratified")[seed % 4]
    data: dict[str, Any] = {"split": {"by": split}, **({"time": TIME} if split == "time" else {})}
    if split == "group":
        data["entity"] = ENTITY
    training = Case(
        "clean", "clean", "training", seed, (), training=to_arrow(world.table(0, 112)), data=data,
        numeric=numeric, categorical=CATEGORIES,
    )  # fmt: skip
    return windows, training


# --- windows with something wrong ------------------------------------------------------------------------------------
def _some(world: World, table: Table, share: float) -> np.ndarray:
    return world.rng.random(len(table[ROW])) < share


def _set(name: str, change: Callable[[World, np.ndarray, Table], Any]) -> Callable[[World, Table], tuple[str, ...]]:
    def plant(world: World, table: Table) -> tuple[str, ...]:
        table[name] = change(world, table[name], table)
        return (name,)

    return plant


def _where(
    name: str, share: float, value: Callable[[World, np.ndarray], Any]
) -> Callable[[World, Table], tuple[str, ...]]:
    def plant(world: World, table: Table) -> tuple[str, ...]:
        chosen = _some(world, table, share)
        table[name] = np.where(chosen, value(world, table[name]), table[name])
        return (name,)

    return plant


def _absent(world: World, table: Table) -> tuple[str, ...]:
    del table["device"]
    return ("device",)


def _renamed(world: World, table: Table) -> tuple[str, ...]:
    table["visit_count"] = table.pop("visits")
    return ("visits", "visit_count")


def _text_numbers(world: World, table: Table) -> tuple[str, ...]:
    bad = _some(world, table, 0.02)
    table["amount"] = np.array(["n/a" if b else f"{v}" for b, v in zip(bad, table["amount"], strict=True)])
    return ("amount",)


def _decimal_comma(world: World, table: Table) -> tuple[str, ...]:
    table["duration_s"] = np.array([f"{v:.1f}".replace(".", ",") for v in table["duration_s"]])
    return ("duration_s",)


def _repeated_ids(world: World, table: Table) -> tuple[str, ...]:
    count = len(table[ROW])
    take = np.concatenate([np.arange(count), world.rng.integers(0, count, count // 20)])
    for name in table:
        table[name] = np.asarray(table[name])[take]
    return (ROW, ROWS)


def _stale(world: World, table: Table) -> tuple[str, ...]:
    table[TIME] = table[TIME] - 56 * _DAY
    return (TIME, BATCH)


def _few(world: World, table: Table) -> tuple[str, ...]:
    for name in table:
        table[name] = np.asarray(table[name])[: len(table[name]) // 8]
    return (BATCH, ROWS)


def _permuted(name: str) -> Callable[[World, np.ndarray, Table], np.ndarray]:
    def change(world: World, values: np.ndarray, table: Table) -> np.ndarray:
        names = sorted(set(values.tolist()), key=lambda v: -int((values == v).sum()))
        swapped = dict(zip(names, [names[-1], *names[1:-1], names[0]], strict=True))
        return np.array([swapped[v] for v in values.tolist()])

    return change


def _relabel(world: World, table: Table) -> tuple[str, ...]:
    table[LABEL] = table[LABEL] | (world.rng.random(len(table[LABEL])) < 0.2)
    return (LABEL,)


def _concept(world: World, table: Table) -> tuple[str, ...]:
    """The label depends on score the other way round, and hence less on the others; no column's own distribution
    moves."""
    order = np.argsort(np.nan_to_num(np.asarray(table["score"], np.float64)))
    label = np.asarray(table[LABEL])
    mirrored = label.copy()
    mirrored[order] = label[order[::-1]]
    table[LABEL] = mirrored
    return (LABEL, "score", "amount", "visits", "plan")


def _broken_link(world: World, table: Table) -> tuple[str, ...]:
    table["pressure"] = world.rng.permutation(table["pressure"]) + 0.0
    table["temperature_f"] = -1 * (np.asarray(table["temperature_f"]) - 58) + 58
    return ("pressure", "temperature_f")


_TYPOS = {"plus": "Plus", "basic": "basic ", "pro": "pro."}
WINDOWS: dict[str, tuple[str, Callable[[World, Table], tuple[str, ...]]]] = {
    "missing surge": ("anomaly", _where("rate", 0.2, lambda w, v: np.nan)),
    "column all missing": ("anomaly", _where("pressure", 1.0, lambda w, v: np.nan)),
    "default-value surge": ("anomaly", _where("age", 0.12, lambda w, v: -1)),
    "values out of range": ("anomaly", _where("amount", 0.005, lambda w, v: np.asarray(v) * 10_000)),
    "negative amounts": ("anomaly", _where("distance_miles", 0.02, lambda w, v: -np.asarray(v) - 0.01)),
    "infinite numbers": ("anomaly", _where("score", 0.01, lambda w, v: np.inf)),
    "new categories": ("anomaly", _where("plan", 0.05, lambda w, v: "enterprise")),
    "misspelt categories": (
        "anomaly", _where("plan", 0.05, lambda w, v: np.array([_TYPOS[x] for x in v.tolist()])),
    ),
    "text among numbers": ("anomaly", _text_numbers),
    "decimal comma": ("anomaly", _decimal_comma),
    "column absent": ("anomaly", _absent),
    "column renamed": ("anomaly", _renamed),
    "repeated rows": ("anomaly", _repeated_ids),
    "stuck sensor": ("anomaly", _set("temperature_f", lambda w, v, t: np.full(len(v), 58.0))),
    "stale batch": ("anomaly", _stale),
    "volume drop": ("anomaly", _few),
    "unit: miles to km": ("anomaly", _set("distance_miles", lambda w, v, t: np.asarray(v) * 1.609344)),
    "unit: F to C": ("anomaly", _set("temperature_f", lambda w, v, t: (np.asarray(v) - 32) * 5 / 9)),
    "unit: s to ms": ("anomaly", _set("duration_s", lambda w, v, t: np.asarray(v) * 1000)),
    "vocabulary swap": ("anomaly", _set("status", _permuted("status"))),
    "hours in another time zone": ("skew", _set(TIME, lambda w, v, t: v + np.timedelta64(5 * 3600 * 10**6, "us"))),
    "covariate shift, half a deviation": (
        "drift", _set("score", lambda w, v, t: np.asarray(v) + 0.5 * w.scale["score"]),
    ),
    "wider spread": ("drift", _set("pressure", lambda w, v, t: 1013 + 2 * (np.asarray(v) - 1013))),
    "category shares": ("drift", _where("region", 0.25, lambda w, v: "r03")),
    "a new mode": ("drift", _where("duration_s", 0.15, lambda w, v: w.rng.normal(1500, 60, len(v)))),
    "label shift": ("drift", _relabel),
    "concept drift": ("drift", _concept),
    "link between columns broken": ("drift", _broken_link),
}  # fmt: skip


def planted_windows(kind: str, seed: int, rows: int) -> Case:
    """Two windows with one kind planted in the second."""
    family, plant = WINDOWS[kind]
    world = World(seed, rows)
    reference, current = world.windows()
    places = plant(world, current)
    return Case(
        kind, family, "windows", seed, places, to_arrow(reference), to_arrow(current),
        numeric=(*NUMBERS, *world.noise), categorical=CATEGORIES,
    )  # fmt: skip
