"""The first pass: what decides each row's side, collected while validation looks at all rows; then the decision.

It keeps a few numbers for each row: label, time, hashes where the split needs them, 8 to 30 bytes (with near duplicates
kept together 16 more for each feature).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.balance import balanced, drawn_rows
from fairlead.data.checks import Checked
from fairlead.data.labels import LabelCollector, Labels, unlabelled
from fairlead.data.leaks import FirstLook
from fairlead.data.leaks.rows import EntityOverlap, content_hashes, entity_overlap
from fairlead.data.near_duplicates import families
from fairlead.data.row_hashes import hash_column, hash_rows
from fairlead.data.splits import LEFT_OUT, Keys, assign, check_sizes, keep_first
from fairlead.errors import SchemaMismatch
from fairlead.features.instants import instant_array
from fairlead.features.kinds import kind_of
from fairlead.spec.project import Project

UNLABELLED = -2  # in the training period, so that the leak scan may compare
_DROPPED = -3
_SHIFTED = (
    "scores say a rare class more often than it is so; isotonic calibration (evaluate.calibration) mends it for two "
    "classes, temperature does not"
)


@dataclass(frozen=True)
class Plan:
    """`sides` int8: for every row that was read, the index into SPLITS, or a negative number for rows that are not
    written. `codes` are the labels of the written rows in their order, `times` how often each is written (None: once),
    `weights` how much each counts (None: alike); of the training rows their mean is 1. `entities`: of each later side
    what it shares with training; `drawn` says what was done to the training split."""

    sides: np.ndarray
    labels: Labels
    codes: np.ndarray
    boundaries: dict[str, str]
    rows_duplicate: int
    first_look: FirstLook
    times: np.ndarray | None = None
    weights: np.ndarray | None = None
    entities: dict[int, EntityOverlap] = field(default_factory=dict)
    drawn: tuple[str, ...] = ()

    def check(self, project: Project) -> None:
        """Raises SplitTooSmall."""
        written = self.sides[self.sides >= 0]
        check_sizes(written, self.codes, self.labels.classes, self.boundaries, project.data.split.by)

    def rows(self, side: int) -> int:
        """How many rows have this side."""
        return int((self.sides == side).sum())


class FirstPass:
    """Takes every checked batch in order."""

    def __init__(self, project: Project) -> None:
        data = project.data
        self._data, self._features = data, project.features
        self._hash_rows = data.duplicates == "drop" or data.split.by in ("random", "stratified")
        self._labels = LabelCollector(data.label)
        self._look = FirstLook(project)
        self._state: list[np.ndarray] = []
        self._of_row: dict[str, list[np.ndarray]] = {}

    def take(self, checked: Checked) -> None:
        """Take a batch: state 0 for usable rows, UNLABELLED, _DROPPED for rejected ones."""
        batch, data = checked.batch, self._data
        state = np.zeros(batch.num_rows, np.int8)
        labels = batch.column(data.label.column)
        state[unlabelled(labels)] = UNLABELLED
        if checked.bad is not None:
            state[checked.bad] = _DROPPED
        self._state.append(state)
        good = state != _DROPPED
        times = None
        if data.time is not None and (data.split.in_time or data.leaks.known_at):
            times = instant_array(_as_written(checked, data.time).filter(pa.array(good)))
            self._add("times", times)
        self._look.take(batch if good.all() else batch.filter(pa.array(good)), times)
        usable = batch.filter(pa.array(state == 0))
        if usable.num_rows:
            self._labels.update(usable.column(data.label.column))
        if data.entity is not None and data.split.by != "time":  # where time decides alone, entities may live on
            self._add("groups", hash_column(usable.column(data.entity)))
        if self._hash_rows:
            self._add("rows", hash_rows(usable))
        if data.near_duplicates == "keep_together":
            names = [*(n for n in self._features.names() if n not in self._features.image), data.label.column]
            self._add("contents", np.moveaxis(content_hashes([usable.column(name) for name in names]), 2, 0))
        for name, column in (("weight", data.weight), ("chance", data.sample.chance if data.sample else None)):
            if column is not None:
                self._add(name, weights_of(usable.column(column), column))

    def finish(self, project: Project) -> Plan:
        """Decide. Raises LabelProblem, SchemaMismatch."""
        state = np.concatenate(self._state) if self._state else np.empty(0, np.int8)
        labels = self._labels.finish()
        kept = state[state != _DROPPED] == 0
        every = {name: np.concatenate(parts) for name, parts in self._of_row.items()}
        times = every.get("times") if self._data.split.in_time else None
        keys = Keys(
            num_rows=len(labels.codes),
            labels=labels.codes,
            times=None if times is None else times[kept],
            groups=every.get("groups"),
            rows=every.get("rows"),
            families=families(np.moveaxis(every["contents"], 0, 2)) if "contents" in every else None,
        )
        duplicates = np.zeros(keys.num_rows, bool)
        if project.data.duplicates == "drop" and keys.rows is not None:
            duplicates = ~keep_first(keys.rows)
            keys = _select(keys, ~duplicates)
        sides, boundaries = assign(project.data.split, keys)
        usable = np.full(len(labels.codes), _DROPPED, np.int8)
        usable[~duplicates] = sides
        usable, repeats, weights, drawn = self._draw(usable, labels, every)
        result = state.copy()
        result[state == 0] = usable
        if times is not None and "validation" in boundaries:
            begin = np.datetime64(boundaries["validation"][:19], "us")
            late = (~kept) & (times >= begin)
            among_kept = result[state != _DROPPED]
            among_kept[late] = _DROPPED
            result[state != _DROPPED] = among_kept
        written = usable >= 0
        entities: dict[int, EntityOverlap] = {}
        if keys.groups is not None:
            bound = project.data.leaks.max_auc
            entities = {
                side: entity_overlap(keys.groups, keys.labels, usable[~duplicates], side, labels.task, bound)
                for side in (1, 2)
            }
        return Plan(
            result,
            labels,
            labels.codes[written],
            boundaries,
            int(duplicates.sum()),
            self._look,
            None if repeats is None else repeats[written],
            None if weights is None else weights[written],
            entities,
            drawn,
        )

    def _draw(
        self, sides: np.ndarray, labels: Labels, every: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, tuple[str, ...]]:
        """The declared sample, balance and weights: (sides, repeats or None, weights or None, what was done)."""
        data = self._data
        train = np.flatnonzero(sides == 0)
        weights = every.get("weight")
        told: list[str] = []
        if weights is not None:
            weights = weights.copy()
            nothing = (weights == 0) & (sides >= 0)
            if nothing.any():
                sides = np.where(nothing, LEFT_OUT, sides).astype(np.int8)
                told.append(f"{int(nothing.sum()):,} rows of weight 0 ({data.weight}) are left out")
                train = np.flatnonzero(sides == 0)
        if data.sample is not None and len(train):
            chances = every["chance"][train] if "chance" in every else None
            places, stand_for = drawn_rows(data.sample, labels.codes[train], chances)
            told.append(f"{len(places):,} of {len(train):,} training rows were drawn ({data.sample.by})")
            sides = sides.copy()
            sides[np.delete(train, places)] = LEFT_OUT
            train = train[places]
            if stand_for is not None:
                weights = np.ones(len(sides)) if weights is None else weights
                weights[train] *= stand_for
        repeats = None
        if data.balance.how != "none" and len(train):
            seed = data.split.seed
            times, worth = balanced(data.balance, labels.codes[train], len(labels.classes), seed, data.label.column)
            told.append(f"the training split is balanced ({data.balance.how}): {_SHIFTED}")
            if worth is not None:
                weights = np.ones(len(sides)) if weights is None else weights
                weights[train] *= worth
            else:
                repeats = np.ones(len(sides), np.int64)
                repeats[train] = times
                sides = np.where(repeats == 0, LEFT_OUT, sides).astype(np.int8)
        if weights is not None:
            counts = weights[sides == 0] * (1 if repeats is None else repeats[sides == 0])
            total = float(counts.sum())
            if total:
                weights[sides == 0] *= (len(counts) if repeats is None else repeats[sides == 0].sum()) / total
        return sides, repeats, weights, tuple(told)

    def _add(self, name: str, values: np.ndarray) -> None:
        self._of_row.setdefault(name, []).append(values)


def _select(keys: Keys, kept: np.ndarray) -> Keys:
    def part(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[kept]

    return replace(
        keys,
        num_rows=int(kept.sum()),
        labels=keys.labels[kept],
        times=part(keys.times),
        groups=part(keys.groups),
        rows=part(keys.rows),
        families=part(keys.families),
    )


def weights_of(column: pa.Array, name: str) -> np.ndarray:
    """float64 [N]. Raises SchemaMismatch for what is no weight."""
    if kind_of(column.type) not in ("int", "float"):
        raise SchemaMismatch(
            f"the column {name} is of type {column.type}, which cannot be a weight",
            where=f"column {name}",
            fix="name a column of numbers",
        )
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        raise SchemaMismatch(
            f"the column {name} is no weight in {int(bad.sum()):,} of the rows of a batch",
            where=f"column {name}",
            why=f"a weight is a number of at least 0, such as {values[bad][0]} is not",
            fix=f"set required and min: 0 for {name} in the schema, so that such rows are rejected, or mend the source",
        )
    return values


def _as_written(checked: Checked, name: str) -> pa.Array:
    """A column of points in time with its offsets, which checked text no longer has (features want the wall clock)."""
    column = checked.raw.batch.column(name)
    if kind_of(column.type) != "string":
        return checked.batch.column(name)
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(checked.batch.column(name).is_valid(), text, None)
