"""Where the data and the committed schema disagree, and the schema with the differences accepted."""

from collections.abc import Collection, Iterable

from fairlead.data.inference import Inferred
from fairlead.data.schema import ColumnRule, Schema
from fairlead.records.drift import SchemaChange


def schema_changes(schema: Schema, inferred: Inferred) -> tuple[SchemaChange, ...]:
    """`inferred`: what the present data would have as their schema. Bounds and lists count only where the data break
    them, because a person may have made them narrower or wider on purpose."""
    found: list[SchemaChange] = []
    for name, rule in schema.columns.items():
        fresh = inferred.schema.columns.get(name)
        if fresh is None:
            why = inferred.skipped.get(name, "no file has it")
            found.append(SchemaChange(name, "column", rule.type, f"absent: {why}"))
        else:
            found += _of_rule(name, rule, fresh, inferred.ranges.get(name))
    for name, fresh in inferred.schema.columns.items():
        if name not in schema.columns:
            found.append(SchemaChange(name, "column", "absent", fresh.type))
    return tuple(found)


def _of_rule(
    name: str, rule: ColumnRule, fresh: ColumnRule, seen: tuple[float, float] | None
) -> Iterable[SchemaChange]:
    if rule.type != fresh.type and {rule.type, fresh.type} != {"int", "float"}:
        yield SchemaChange(name, "type", rule.type, fresh.type)
        return
    if seen is not None:
        if rule.min is not None and seen[0] < rule.min:
            yield SchemaChange(name, "min", f"{rule.min:g}", f"{seen[0]:g}")
        if rule.max is not None and seen[1] > rule.max:
            yield SchemaChange(name, "max", f"{rule.max:g}", f"{seen[1]:g}")
    if rule.values is not None:
        if fresh.values is None:
            yield SchemaChange(name, "values", f"{len(rule.values)} values", "more than can be listed")
        elif new := sorted(set(fresh.values) - set(rule.values)):
            yield SchemaChange(name, "values", f"{len(rule.values)} values", f"also {', '.join(new)}")


def accepted(schema: Schema, inferred: Inferred, columns: Collection[str] = ()) -> Schema:
    """The schema that the data fit, changed in `columns` only (all when empty), and there only where it must be."""
    changes = [one for one in schema_changes(schema, inferred) if not columns or one.column in columns]
    rules = dict(schema.columns)
    for change in changes:
        fresh = inferred.schema.columns.get(change.column)
        if fresh is None:
            del rules[change.column]
        elif change.key in ("column", "type"):
            rules[change.column] = fresh
        else:
            rule = rules[change.column]
            value: object = getattr(fresh, change.key)
            if change.key == "values" and isinstance(value, list):
                value = sorted({*(rule.values or []), *value})
            rules[change.column] = ColumnRule.model_validate(rule.model_dump() | {change.key: value})
    return Schema(columns=rules)
