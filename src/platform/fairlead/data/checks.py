"""Holding rows against the schema, a batch at a time, vectorised: one look at the whole column when all is well."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.lookalikes import header_of_data, looks_like
from fairlead.data.readers import BrokenRow, RawBatch
from fairlead.data.schema import ColumnRule, Environment, Schema
from fairlead.data.text_values import count_zones, parse_text
from fairlead.errors import SchemaMismatch
from fairlead.features.categories import category_array
from fairlead.features.kinds import kind_of

_ARROW = {"int": pa.int64(), "float": pa.float64(), "string": pa.string(), "bool": pa.bool_()}
_NEW_VALUES = 20
_SHOWN = 1000
_WITH_ENDS = frozenset({"below minimum", "above maximum"})
# The years 1 to 9999 in microseconds since 1970.
_FIRST_MOMENT, _LAST_MOMENT = (int(np.datetime64(year, "us").astype(np.int64)) for year in ("0001", "10000"))


@dataclass(frozen=True)
class Problem:
    """The rows at `positions` of a batch that break the schema in `column`; `values` are what stood there (in the first
    thousand of them), `low` and `high` the smallest and largest of their numbers."""

    column: str
    reason: str
    positions: np.ndarray
    values: tuple[str, ...]
    low: int | float | None = None
    high: int | float | None = None


@dataclass(frozen=True)
class Checked:
    """A batch after the check. `batch` has the schema's columns in their types; rows that `bad` marks are not to be
    used. `new_values` are values of string columns that the schema does not list but allows, `unlisted` the rows that
    have them; `negative` are rows with a number below 0 where none was before; `zones` counts the points in time,
    written as text, with a time zone and without."""

    raw: RawBatch
    batch: pa.RecordBatch
    bad: np.ndarray | None
    problems: tuple[Problem, ...]
    new_values: Mapping[str, tuple[str, ...]]
    zones: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unlisted: tuple[Problem, ...] = ()
    negative: tuple[Problem, ...] = ()

    @property
    def broken(self) -> tuple[BrokenRow, ...]:
        """Rows of the file that could not be split into columns."""
        return self.raw.broken


class Checker:
    """Checks batches against a schema, `only` some of its columns where given. `required` adds columns that must not be
    missing; `never_negative` names columns of numbers whose negative values are to be listed (`Checked.negative`);
    `header` gives the columns of a file, for errors. Threads may share one."""

    def __init__(
        self,
        schema: Schema,
        uris: Sequence[str],
        *,
        required: Sequence[str] = (),
        only: Sequence[str] | None = None,
        environment: Environment = "training",
        never_negative: Collection[str] = (),
        header: Callable[[int], Sequence[str]] | None = None,
    ) -> None:
        self.rules = {
            name: rule.model_copy(update={"required": name in required or rule.required_at(environment)})
            for name, rule in schema.columns.items()
            if only is None or name in only
        }
        self._uris = uris
        self._header = header
        self._never_negative = never_negative

    def check(self, raw: RawBatch) -> Checked:
        """Find what breaks the schema. Raises SchemaMismatch for columns that are absent or wholly of another type."""
        arrays: list[pa.Array] = []
        problems: list[Problem] = []
        unlisted: list[Problem] = []
        negative: list[Problem] = []
        zones: dict[str, tuple[int, int]] = {}
        for name, rule in self.rules.items():
            column = self._column(raw, name)
            values, unreadable = self._typed(raw, name, rule, column)
            found = [("type", unreadable)] if unreadable is not None else []
            found += _broken_rules(values, rule, unreadable)
            for reason, mask in found:
                if mask.any():
                    problems.append(problem_of(name, reason, mask, column, values))
            if rule.values is not None and rule.new_values == "allow":
                new = _unlisted(values, rule.values)
                if new is not None:
                    unlisted.append(problem_of(name, "new values", new, column))
            if name in self._never_negative and (below := _below_zero(values)) is not None:
                negative.append(problem_of(name, "negative", below, column))
            if rule.type == "timestamp" and kind_of(column.type) == "string":
                good = column if unreadable is None else column.filter(pa.array(~unreadable))
                zones[name] = count_zones(good.cast(pa.string()))
            arrays.append(values)
        bad = None
        if problems:
            bad = np.zeros(raw.batch.num_rows, bool)
            for problem in problems:
                bad[problem.positions] = True
        batch = pa.RecordBatch.from_arrays(arrays, names=list(self.rules))
        new_values = {one.column: tuple(sorted(set(one.values))[:_NEW_VALUES]) for one in unlisted}
        return Checked(raw, batch, bad, tuple(problems), new_values, zones, tuple(unlisted), tuple(negative))

    def _column(self, raw: RawBatch, name: str) -> pa.Array:
        index = raw.batch.schema.get_field_index(name)
        if index < 0:
            raise SchemaMismatch(
                f"the column {name} is absent",
                where=self._uris[raw.file],
                why=f"the schema lists it; {self._columns_there(raw)}",
                fix="correct the source, or edit the schema",
            )
        return raw.batch.column(index)

    def _columns_there(self, raw: RawBatch) -> str:
        # The batch has those that were asked for; the header says more.
        names = self._header(raw.file) if self._header else raw.batch.schema.names
        return header_of_data(names) or f"the file has {', '.join(names[:30]) or 'no columns'}"

    def _typed(
        self, raw: RawBatch, name: str, rule: ColumnRule, column: pa.Array
    ) -> tuple[pa.Array, np.ndarray | None]:
        """The column in the rule's type, and which rows could not be read (None: all could)."""
        found = kind_of(column.type)
        if pa.types.is_null(column.type):
            return pa.nulls(len(column), _ARROW.get(rule.type, column.type)), None
        if found == "string" and rule.type != "string":
            text = column.cast(pa.string())
            values, bad = parse_text(text, rule.type) if rule.type != "tensor" else (text, np.ones(len(text), bool))
            if bad.any() and int(bad.sum()) == len(text) - text.null_count and len(text) > 100:
                seen = looks_like(text) or f"such as {_shown(text.drop_null()[0].as_py())!r}"
                raise self._mismatch(raw, name, rule, f"text that cannot be read as such in any row; {seen}")
            return values, bad if bad.any() else None
        if found == rule.type:
            target = _ARROW.get(rule.type)
            if rule.type == "timestamp":
                target = pa.timestamp("us", getattr(column.type, "tz", None))
            return (
                column if target is None or column.type == target else self._cast(raw, name, rule, column, target)
            ), None
        if rule.type == "float" and found in ("int", "bool"):
            return column.cast(pa.float64(), safe=False), None
        if rule.type == "int" and found == "float":
            return _whole_numbers(column)
        if rule.type == "string" and found in ("int", "float", "bool"):
            return category_array(column), None
        if rule.type == "bool" and found == "int":
            bad = np.asarray(pc.invert(pc.is_in(column, value_set=pa.array([0, 1, None], column.type))))
            return pc.equal(column, 1), bad if bad.any() else None
        raise self._mismatch(raw, name, rule, str(column.type))

    def _cast(self, raw: RawBatch, name: str, rule: ColumnRule, column: pa.Array, target: pa.DataType) -> pa.Array:
        try:
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if pa.types.is_decimal(column.type):
                # By way of text, which gives the nearest number, as the same digits in CSV and in a request do.
                column = column.cast(pa.string())
            return column.cast(_ARROW[rule.type]) if rule.type in _ARROW else column.cast(target, safe=False)
        except pa.ArrowInvalid as error:
            raise self._mismatch(raw, name, rule, f"{column.type}: {error}") from error

    def _mismatch(self, raw: RawBatch, name: str, rule: ColumnRule, found: str) -> SchemaMismatch:
        first, last = raw.row_numbers(np.array([0, max(raw.batch.num_rows - 1, 0)])).tolist()
        return SchemaMismatch(
            f"the column {name} is not of type {rule.type}",
            where=f"{self._uris[raw.file]}, column {name}, rows {first:,} to {last:,}",
            why=f"it holds {found}",
            fix="correct the source, or edit the schema",
        )


def _whole_numbers(column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
    """Floats that stand for integers, as a column of integers with missing values turns out of other tools."""
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        bad = ~np.isnan(numbers) & ((numbers != np.floor(numbers)) | (np.abs(numbers) >= 2.0**63))
    masked = np.isnan(numbers) | bad
    values = pa.array(np.where(masked, 0, numbers).astype(np.int64), mask=masked)
    return values, bad if bad.any() else None


def _broken_rules(values: pa.Array, rule: ColumnRule, unreadable: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    found: list[tuple[str, np.ndarray]] = []
    if rule.type in ("int", "float") and not pa.types.is_null(values.type):
        found += _broken_range(values, rule)
    if rule.type == "timestamp" and pa.types.is_timestamp(values.type):
        found += _beyond_the_calendar(values)
    if rule.type == "tensor" and kind_of(values.type) == "tensor":
        found += _broken_items(values, rule)
    if rule.required:
        missing: np.ndarray | None = None
        if values.null_count:
            missing = np.asarray(values.is_null().to_numpy(zero_copy_only=False))
        if rule.type == "float" and not pa.types.is_null(values.type):
            nan = pc.is_nan(values)
            if pc.any(nan).as_py():
                nans = np.asarray(nan.fill_null(False).to_numpy(zero_copy_only=False))
                missing = nans if missing is None else missing | nans
        if missing is not None:
            found.append(("missing", missing if unreadable is None else missing & ~unreadable))
    if rule.pattern is not None and not pa.types.is_null(values.type):
        matched = pc.match_substring_regex(values, f"^(?:{rule.pattern})$").fill_null(True)
        if not pc.all(matched).as_py():
            found.append(("not of the pattern", ~np.asarray(matched.to_numpy(zero_copy_only=False))))
    if rule.values is not None and rule.new_values == "reject":
        known = pc.is_in(values, value_set=pa.array([*rule.values, None], pa.string()))
        found.append(("not in domain", ~np.asarray(known.to_numpy(zero_copy_only=False))))
    return found


def _broken_range(values: pa.Array, rule: ColumnRule) -> list[tuple[str, np.ndarray]]:
    extremes = pc.min_max(values)
    low, high = extremes["min"].as_py(), extremes["max"].as_py()
    if low is None:
        return []
    found: list[tuple[str, np.ndarray]] = []
    infinite: np.ndarray | None = None
    if rule.type == "float" and (math.isinf(low) or math.isinf(high)):
        infinite = np.asarray(pc.is_inf(values).fill_null(False).to_numpy(zero_copy_only=False))
        found.append(("not finite", infinite))
    for reason, bound, broken, compare in (
        ("below minimum", rule.min, rule.min is not None and low < rule.min, pc.less),
        ("above maximum", rule.max, rule.max is not None and high > rule.max, pc.greater),
    ):
        if broken:
            numbers = values.cast(pa.float64(), safe=False) if isinstance(bound, float) else values
            mask = np.asarray(compare(numbers, bound).fill_null(False).to_numpy(zero_copy_only=False))
            found.append((reason, mask if infinite is None else mask & ~infinite))
    return found


def _beyond_the_calendar(values: pa.Array) -> list[tuple[str, np.ndarray]]:
    """Points in time that calendars do not reach; a count in a wrong unit ends there."""
    counts = values.cast(pa.int64())
    extremes = pc.min_max(counts)
    low, high = extremes["min"].as_py(), extremes["max"].as_py()
    if low is None or (low >= _FIRST_MOMENT and high < _LAST_MOMENT):
        return []
    good = pc.and_(pc.greater_equal(counts, _FIRST_MOMENT), pc.less(counts, _LAST_MOMENT))
    return [("beyond the calendar", ~np.asarray(good.fill_null(True).to_numpy(zero_copy_only=False)))]


def _unlisted(values: pa.Array, known: Sequence[str]) -> np.ndarray | None:
    listed = pc.is_in(values, value_set=pa.array([*known, None], pa.string()))
    if pc.all(listed).as_py() is not False:
        return None
    return ~np.asarray(listed.to_numpy(zero_copy_only=False))


def _below_zero(values: pa.Array) -> np.ndarray | None:
    low = None if pa.types.is_null(values.type) else pc.min_max(values)["min"].as_py()
    if low is None or not low < 0:
        return None
    return np.asarray(pc.less(values, 0).fill_null(False).to_numpy(zero_copy_only=False))


def _broken_items(values: pa.Array, rule: ColumnRule) -> Iterator[tuple[str, np.ndarray]]:
    """Lists with too few or too many items (of nested ones, the outermost)."""
    lengths = pc.list_value_length(values)
    for reason, bound, compare in (
        ("too few items", rule.min_items, pc.less),
        ("too many items", rule.max_items, pc.greater),
    ):
        if bound is not None:
            mask = np.asarray(compare(lengths, bound).fill_null(False).to_numpy(zero_copy_only=False))
            if mask.any():
                yield reason, mask


def problem_of(name: str, reason: str, mask: np.ndarray, column: pa.Array, values: pa.Array | None = None) -> Problem:
    """The rows of `mask`, with what the file's `column` has there; of `values`, where these are numbers, the ends."""
    positions = np.flatnonzero(mask)
    shown = tuple(_shown(value) for value in _values(column.take(pa.array(positions[:_SHOWN]))))
    if values is None or reason not in _WITH_ENDS:
        return Problem(name, reason, positions, shown)
    ends = pc.min_max(values.filter(pa.array(mask)))
    return Problem(name, reason, positions, shown, ends["min"].as_py(), ends["max"].as_py())


def _values(column: pa.Array) -> list[object]:
    if pa.types.is_timestamp(column.type):  # Python's own end with the year 9999, and with microseconds
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return [None if value is None else str(np.datetime64(value, "us")) for value in column.to_pylist()]
    values: list[object] = column.to_pylist()
    return values


def _shown(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
