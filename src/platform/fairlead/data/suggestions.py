"""The smallest change of the schema that takes an anomaly away, in the schema's own YAML, and making such a change.

A suggestion is no advice: values that are wrong are to be mended at their source. It says what the schema would have to
be if they are right.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from fairlead.data.schema import ColumnRule, Schema
from fairlead.errors import UsageError

# Why a row is refused -> the kind of the anomaly.
KINDS: Mapping[str, str] = {
    "type": "wrong_type",
    "missing": "missing_required",
    "not finite": "not_finite",
    "below minimum": "below_min",
    "above maximum": "above_max",
    "beyond the calendar": "beyond_calendar",
    "not of the pattern": "not_of_pattern",
    "not in domain": "not_in_values",
    "not unique": "not_unique",
    "goes back": "goes_back",
    "too few items": "too_few_items",
    "too many items": "too_many_items",
    "columns": "wrong_columns",
    "quote": "open_quote",
    "json": "not_json",
    "key twice": "key_twice",
}
_MOST_VALUES = 50
_WITHOUT: Mapping[str, str] = {
    "not of the pattern": "pattern",
    "not unique": "unique",
    "goes back": "monotonic",
    "too few items": "min_items",
    "too many items": "max_items",
}

Number = int | float


def kind_of_reason(reason: str) -> str:
    """The kind of the anomaly of rows that are refused for `reason`."""
    return KINDS.get(reason, reason.replace(" ", "_"))


def suggested(
    name: str,
    rule: ColumnRule | None,
    reason: str,
    *,
    low: Number = math.inf,
    high: Number = -math.inf,
    values: Iterable[str] = (),
) -> str:
    """What would accept the rows of column `name` that break `rule` for `reason`: ``columns: {km: {min: -5}}``.

    `low` and `high`: the smallest and largest of their numbers; `values`: some of their values as text. "" where no
    rule would (whole rows, infinite numbers, points in time beyond the calendar)."""
    if rule is None:
        return ""
    change = _change(rule, reason, low, high, list(values))
    return change_text({name: change}) if change else ""


def change_text(columns: Mapping[str, Mapping[str, object] | None]) -> str:
    """The YAML of a change, in one line; None of a key takes the rule away, None of a column the column."""
    value = {"columns": {name: None if keys is None else dict(keys) for name, keys in columns.items()}}
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.strip()[1:-1]


def _change(rule: ColumnRule, reason: str, low: Number, high: Number, values: list[str]) -> dict[str, object]:
    if reason == "type":
        return _other_type(rule, values)
    if reason == "missing":
        return {key: None for key in ("required", "required_in") if getattr(rule, key)}
    if reason == "below minimum" and math.isfinite(low):
        return {"min": low}
    if reason == "above maximum" and math.isfinite(high):
        return {"max": high}
    if reason in _WITHOUT:
        return {_WITHOUT[reason]: None}
    if reason in ("not in domain", "new values"):
        return _more_values(rule, values)
    return {}


def _more_values(rule: ColumnRule, new: list[str]) -> dict[str, object]:
    listed = sorted({*(rule.values or []), *new})
    if len(listed) > _MOST_VALUES:
        return {"values": None, "new_values": None}
    return {"values": listed}


def _other_type(rule: ColumnRule, values: list[str]) -> dict[str, object]:
    """The narrowest type that takes what was seen, without the rules that are not for it."""
    if rule.type == "tensor" or not values:
        return {}
    wider = "float" if rule.type == "int" and all(_is_number(value) for value in values) else "string"
    gone = {} if wider == "float" else {key: None for key in _NUMBER_KEYS if getattr(rule, key) is not None}
    return {"type": wider, **gone}


_NUMBER_KEYS = ("min", "max", "unit", "monotonic", "min_mean", "max_mean")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def changed(schema: Schema, text: str) -> Schema:
    """`schema` with the change that `text` describes. Raises UsageError for what is no change of this schema."""
    columns = _columns_of(text)
    rules = dict(schema.columns)
    for name, keys in columns.items():
        if name not in rules:
            raise _refused(text, f"the schema has no column {name}; it has {', '.join(list(rules)[:30])}")
        if keys is None:
            del rules[name]
            continue
        values = rules[name].model_dump(exclude_defaults=True) | keys
        try:
            rules[name] = ColumnRule.model_validate({k: v for k, v in values.items() if v is not None})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(["columns", name, *(str(part) for part in first["loc"])])
            raise _refused(text, f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    if not rules:
        raise _refused(text, "no column would be left")
    return Schema(columns=rules)


def _columns_of(text: str) -> dict[str, dict[str, Any] | None]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _refused(text, f"it is not YAML: {error}") from error
    columns = value.get("columns") if isinstance(value, dict) and set(value) == {"columns"} else None
    if not isinstance(columns, dict) or not columns:
        raise _refused(text, "it has not the one key columns with columns below it")
    for name, keys in columns.items():
        if keys is not None and (not isinstance(keys, dict) or not keys):
            raise _refused(text, f"columns.{name}: neither keys of a rule nor null")
    return columns


def _refused(text: str, why: str) -> UsageError:
    return UsageError(
        "this is no change of the schema",
        where=f"--change {text[:200]!r}",
        why=why,
        fix="write for instance --change 'columns: {km: {min: -5, max: null}}'; null takes a rule away",
    )
