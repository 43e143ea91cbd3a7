"""A schema from the data itself: one pass, generous where later honest data may differ.

Types are what the files say, or for text what at least 99 % of the first rows can be read as. A column is required when
none of at least 1,000 values was missing. Ranges reach ten times beyond the largest magnitude seen, which lets seasons
and growth pass and stops sentinels (-9999) and wrong units (a factor of 100). Values of strings are listed when there
are few of them, and new ones are reported, not rejected: a rare category of next month is honest data.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.lookalikes import looks_like, looks_like_epoch
from fairlead.data.readers import RawBatch
from fairlead.data.schema import ColumnRule, Schema
from fairlead.data.sources import Source
from fairlead.data.text_values import MISSING_WORDS, likely_kind, parse_text
from fairlead.errors import EmptyData, SchemaMismatch
from fairlead.features.kinds import kind_of

_MIN_ROWS_FOR_REQUIRED = 1000
_MAX_VALUES = 50
_RANGE_FACTOR = 10
_HEAD_FILES = 8
_HEAD_ROWS = 20_000
_MAX_UNREADABLE = 0.01


@dataclass
class _Seen:
    """What is known about one column so far."""

    kind: str
    rows: int = 0
    missing: int = 0
    unreadable: int = 0
    low: float = math.inf
    high: float = -math.inf
    values: set[str] | None = field(default_factory=set)


@dataclass(frozen=True)
class Inferred:
    """A schema, a comment for each column, what was left out and why, which columns look like something that they
    are not, and the smallest and largest number of each column of numbers."""

    schema: Schema
    notes: dict[str, str]
    skipped: dict[str, str]
    rows: int
    looks: dict[str, str]
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)


def infer_schema(source: Source, never_bounded: Iterable[str] = (), instants: Iterable[str] = ()) -> Inferred:
    """Look at all rows once. Columns in `never_bounded` (the label) get a type only; those in `instants` are points in
    time also where a typed file holds them as text. Raises EmptyData."""
    looks: dict[str, str] = {}
    kinds, skipped = _kinds(source, set(instants), looks)
    seen = {name: _Seen(kind) for name, kind in kinds.items()}
    rows = 0
    for found in source.scan(lambda raw: _look(raw, kinds), list(kinds)):
        rows += found.pop("", _Seen("")).rows
        for name, part in found.items():
            _merge(seen[name], part)
    if not rows:
        raise EmptyData(
            "the source has no rows", where=", ".join(file.uri for file in source.files[:5]), fix="check data.source"
        )
    if not seen:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise SchemaMismatch(
            "no column of the source can be used",
            where=", ".join(file.uri for file in source.files[:5]),
            why=why or "no columns",
            fix="narrow data.source to files that have columns in common",
        )
    free, wanted = set(never_bounded), set(instants)
    columns, notes = {}, {}
    for name, column in seen.items():
        columns[name], notes[name] = _rule(column, bounded=name not in free)
        if column.missing == column.rows:
            looks[name] = "it has no value at all"
        elif columns[name].type == "string" != column.kind:
            looks[name] = notes[name]
        elif (
            column.kind in ("int", "float") and name in wanted and (epoch := looks_like_epoch(column.low, column.high))
        ):
            looks[name] = epoch
        elif source.format == "csv" and re.fullmatch(r"unnamed_\d+_*", name):
            looks[name] = "its name in the header is empty"
    ranges = {name: (column.low, column.high) for name, column in seen.items() if column.low <= column.high}
    looks = {k: v for k, v in looks.items() if k in columns}
    return Inferred(Schema(columns=columns), notes, skipped, rows, looks, ranges)


def _kinds(source: Source, instants: set[str], looks: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Column -> kind, and column -> why it is left out. Fills `looks`."""
    kinds: dict[str, str] = {}
    skipped: dict[str, str] = {}
    nulls: dict[str, str] = {}
    text: list[str] = []
    columns = [source.columns_of(number) for number in range(len(source.files))]
    for file, found in zip(source.files, columns, strict=True):
        # A line of JSON leaves out what it does not know; in other formats a column is there or it is not.
        if source.format != "jsonl":
            for name in dict.fromkeys(name for other in columns for name in other if name not in found):
                skipped.setdefault(name, f"{file.uri} has no such column")
        for name, arrow in found.items():
            if arrow is None:
                text += [name] if name not in text else []
                continue
            kind = kind_of(arrow)
            if pa.types.is_null(arrow):
                nulls.setdefault(name, f"it has no value at all in {file.uri}, and no type")
                continue
            if kind == "string" and name in instants:
                text += [name] if name not in text else []
                continue
            if kind is None:
                skipped[name] = f"{arrow} in {file.uri} is not a type that can be used"
            elif kinds.get(name, kind) == kind:
                kinds[name] = kind
            elif {kinds[name], kind} == {"int", "float"}:
                kinds[name] = "float"
            else:
                raise SchemaMismatch(
                    f"the column {name} has different types in different files",
                    where=file.uri,
                    why=f"{kind} here, {kinds[name]} before",
                    fix="write the files alike, or give the type in a schema file",
                )
    if text:
        kinds |= _text_kinds(source, text, skipped, looks)
    skipped |= {name: why for name, why in nulls.items() if name not in kinds and name not in skipped}
    return {name: kind for name, kind in kinds.items() if name not in skipped}, skipped


def _text_kinds(source: Source, names: list[str], skipped: dict[str, str], looks: dict[str, str]) -> dict[str, str]:
    step = max(1, len(source.files) // _HEAD_FILES)
    heads: dict[str, list[pa.Array]] = {name: [] for name in names}
    for number in range(0, len(source.files), step):
        task = next(source.tasks(names, only=number), None)
        for raw in task() if task else ():
            batch = raw.batch.slice(0, _HEAD_ROWS)
            for name in names:
                if batch.schema.get_field_index(name) >= 0:
                    heads[name].append(batch.column(name))
    found = {}
    for name, arrays in heads.items():
        kinds = {_value_kind(array) for array in arrays if array.null_count < len(array)}
        kinds.discard("")
        if None in kinds:
            skipped[name] = "nested values that are no block of numbers"
        elif kinds <= {"int", "float"} and kinds:
            found[name] = "int" if kinds == {"int"} else "float"
        elif len(kinds) == 1:
            found[name] = str(kinds.pop())
        else:
            found[name] = "string"
        if found.get(name) == "string" and (odd := _odd_text(arrays)):
            looks[name] = odd
    return found


def _odd_text(arrays: list[pa.Array]) -> str:
    """What the text of a column looks like, or how many of its values are numbers or points in time."""
    text = [value for array in arrays for value in array.drop_null().slice(0, 1000).to_pylist()]
    if not all(isinstance(value, str) for value in text):
        return "it holds values of several types"
    if text and all(value.strip() in MISSING_WORDS for value in text):
        return f"it has no value but {text[0].strip()!r}"
    for kind in ("float", "timestamp"):
        values, _ = parse_text(pa.array(text, pa.string()), kind)
        fitting = len(values) - values.null_count
        if 2 * fitting >= len(text) > 0:
            odd = next((value for value, good in zip(text, values.is_valid().to_pylist(), strict=True) if not good), "")
            return (
                f"of the first {len(text):,} values {fitting:,} are of type {kind}, but others such as {odd[:40]!r} not"
            )
    return looks_like(text)


def _value_kind(array: pa.Array) -> str | None:
    kind = kind_of(array.type)
    return likely_kind(array.cast(pa.string())) if kind == "string" else kind


def _look(raw: RawBatch, kinds: dict[str, str]) -> dict[str, _Seen]:
    found = {"": _Seen("", rows=raw.batch.num_rows)}
    for name, kind in kinds.items():
        index = raw.batch.schema.get_field_index(name)
        column = raw.batch.column(index) if index >= 0 else pa.nulls(raw.batch.num_rows)
        part = _Seen(kind, rows=len(column))
        found[name] = part
        if kind_of(column.type) == "string" and kind != "string":
            column, bad = parse_text(column.cast(pa.string()), kind)
            part.unreadable = int(bad.sum())
        part.missing = column.null_count - part.unreadable
        if kind in ("int", "float") and kind_of(column.type) in ("int", "float"):
            numbers = column.cast(pa.float64(), safe=False).drop_null().to_numpy(zero_copy_only=False)
            part.missing += int(np.isnan(numbers).sum())
            numbers = numbers[np.isfinite(numbers)]
            if len(numbers):
                part.low, part.high = float(numbers.min()), float(numbers.max())
        if kind == "string" and kind_of(column.type) == "string":
            values = pc.unique(column.cast(pa.string()).drop_null())
            part.values = set(values.to_pylist()) if len(values) <= _MAX_VALUES else None
    return found


def _merge(seen: _Seen, part: _Seen) -> None:
    seen.rows += part.rows
    seen.missing += part.missing
    seen.unreadable += part.unreadable
    seen.low, seen.high = min(seen.low, part.low), max(seen.high, part.high)
    both = None if seen.values is None or part.values is None else seen.values | part.values
    seen.values = both if both is not None and len(both) <= _MAX_VALUES else None


def _rule(seen: _Seen, *, bounded: bool) -> tuple[ColumnRule, str]:
    present = seen.rows - seen.missing
    if seen.unreadable > _MAX_UNREADABLE * max(present, 1):
        return ColumnRule(type="string"), f"{seen.unreadable:,} of {present:,} values are no {seen.kind}"
    missing = f"{seen.missing:,} of {seen.rows:,} missing" if seen.missing else "never missing"
    note = f"seen {_number(seen.low)} to {_number(seen.high)}, {missing}" if seen.low <= seen.high else missing
    if not bounded:
        return ColumnRule.model_validate(
            {"type": seen.kind}
        ), f"{note} (a row without a label is left out, not refused)"
    required = not seen.missing and not seen.unreadable and seen.rows >= _MIN_ROWS_FOR_REQUIRED
    rule: dict[str, object] = {"type": seen.kind, "required": required}
    if seen.low <= seen.high and (largest := max(abs(seen.low), abs(seen.high))) > 0:
        limit = _round_up(_RANGE_FACTOR * largest)
        if math.isfinite(limit):
            whole = seen.kind == "int" and limit < 2**62
            if whole or seen.kind == "float":
                rule |= {"min": -int(limit) if whole else -limit, "max": int(limit) if whole else limit}
    if seen.kind == "string" and seen.values:
        rule["values"] = sorted(seen.values)
    return ColumnRule.model_validate(rule), note


def _round_up(value: float) -> float:
    """To one significant digit."""
    step = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / step) * step


def _number(value: float) -> str:
    return f"{value:.6g}"
