"""The schema file: what each column must be. Inferred once, edited by people, enforced from then on."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fairlead.atomic import write_atomic
from fairlead.errors import SpecError

Kind = Literal["int", "float", "string", "bool", "timestamp", "tensor"]
Environment = Literal["training", "serving"]
ENVIRONMENTS: tuple[Environment, ...] = ("training", "serving")

_NUMBERS = ("int", "float")


class ColumnRule(BaseModel):
    """What one column must be. A row that breaks a rule is rejected; max_missing, min_mean, max_mean and max_distance
    are about the whole and reject no row."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Kind = Field(description="The type of the column's values.")
    required: bool = Field(False, description="A missing value (null, and NaN of a number) is refused.")
    min: int | float | None = Field(None, description="Smallest accepted number.")
    max: int | float | None = Field(None, description="Largest accepted number.")
    values: list[str] | None = Field(None, description="The known values of a string column.")
    new_values: Literal["allow", "reject"] = Field("allow", description="allow: values not listed are only reported.")
    unique: bool = Field(False, description="Each value occurs once; needs memory for all values.")
    pattern: str | None = Field(None, description="A regular expression (RE2) that a whole string must match.")
    unit: str | None = Field(None, description="The unit of the numbers, for people and for anomalies.")
    max_missing: float | None = Field(
        None, ge=0, le=1, description="Share of missing values beyond which validation warns of the whole."
    )
    monotonic: Literal["file", "set"] | None = Field(
        None,
        description="A number or point in time below the largest one before it is refused: within each file, or over "
        "all files in the order of their names.",
    )
    min_items: int | None = Field(None, ge=0, description="Smallest accepted number of items of a list.")
    max_items: int | None = Field(None, ge=0, description="Largest accepted number of items of a list.")
    environments: list[Environment] | None = Field(
        None,
        min_length=1,
        description="Where the column exists; elsewhere it is not looked for. Without it: everywhere.",
    )
    required_in: list[Environment] | None = Field(
        None, min_length=1, description="Where a missing value is refused, instead of everywhere (required)."
    )
    min_mean: int | float | None = Field(
        None, description="Validation warns of the whole when the mean lies below by more than chance explains."
    )
    max_mean: int | float | None = Field(
        None, description="Validation warns of the whole when the mean lies above by more than chance explains."
    )
    max_distance: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Validation warns of the whole when it is further than this from the accepted baseline, beyond "
        "chance (Kolmogorov-Smirnov for numbers, the largest difference of a share for values).",
    )

    def required_at(self, environment: Environment) -> bool:
        """Is a missing value refused there?"""
        return self.required if self.required_in is None else environment in self.required_in

    def exists_at(self, environment: Environment) -> bool:
        """Is the column looked for there?"""
        return self.environments is None or environment in self.environments

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._fits_type()
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        if self.min_mean is not None and self.max_mean is not None and self.min_mean > self.max_mean:
            raise ValueError("min_mean is above max_mean")
        if self.min_items is not None and self.max_items is not None and self.min_items > self.max_items:
            raise ValueError("min_items is above max_items")
        if self.required and self.required_in is not None:
            raise ValueError("required holds everywhere, required_in somewhere; write one of them")
        if self.environments is not None and not set(self.required_in or ()) <= set(self.environments):
            raise ValueError("required_in names an environment that environments does not")
        if self.pattern is not None:
            try:
                pc.match_substring_regex(pa.array([""]), self.pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"pattern is no regular expression: {error}") from error
        if self.new_values == "reject" and not self.values:
            raise ValueError("new_values: reject needs values")
        return self

    def _fits_type(self) -> None:
        for keys, kinds, words in _MEANT_FOR:
            if self.type not in kinds and any(getattr(self, key) is not None for key in keys):
                raise ValueError(f"{words}, not for {self.type}")


# Keys, the types that take them, and how that is said.
_MEANT_FOR: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("min", "max"), _NUMBERS, "min and max are for numbers"),
    (("values",), ("string",), "values are for strings"),
    (("unit",), _NUMBERS, "a unit is for numbers"),
    (("pattern",), ("string",), "a pattern is for strings"),
    (("monotonic",), (*_NUMBERS, "timestamp"), "monotonic is for numbers and points in time"),
    (("min_items", "max_items"), ("tensor",), "min_items and max_items are for lists (type tensor)"),
    (("min_mean", "max_mean"), (*_NUMBERS, "bool"), "min_mean and max_mean are for numbers and booleans"),
    (("max_distance",), (*_NUMBERS, "string", "bool"), "max_distance is for numbers, strings and booleans"),
)


class Schema(BaseModel):
    """All columns that are read. Columns of a file that are not listed are ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = Field(1, description="The version of this format.")
    columns: dict[str, ColumnRule] = Field(min_length=1, description="The columns by name, and what each must be.")

    def kinds(self) -> dict[str, str]:
        """Column -> type name."""
        return {name: rule.type for name, rule in self.columns.items()}


def load_schema(path: Path) -> Schema:
    """Read a schema file. Raises SpecError listing every problem with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Schema.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise SpecError(f"{path.name} is not YAML", where=str(path), why=str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path.name} cannot be read", where=str(path), why=str(error)) from error
    except ValidationError as error:
        problems = [_problem(path, node, item["loc"], item["msg"]) for item in error.errors()]
        raise SpecError(
            f"{path.name} is not a schema: {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            where=problems[0].split(" ", 1)[0].rstrip(":"),
            why="; ".join(problems),
            fix="correct the file, or remove it to have it inferred again",
        ) from error


def _problem(path: Path, node: yaml.Node | None, location: tuple[int | str, ...], message: str) -> str:
    line = 1
    for part in location:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key, value in pairs:
            if key.value == str(part):
                line, node = key.start_mark.line + 1, value
                break
    name = ".".join(str(part) for part in location)
    nearest = difflib.get_close_matches(str(location[-1]), ColumnRule.model_fields, 1) if location else []
    hint = f" (did you mean {nearest[0]}?)" if "Extra inputs" in message and nearest else ""
    return f"{path.name}:{line}: {name}: {message.removeprefix('Value error, ')}{hint}"


def schema_yaml(schema: Schema, title: str = "", notes: Mapping[str, str] | None = None) -> bytes:
    """The schema as YAML; `notes` are comments on columns. Equal arguments give equal bytes."""
    lines = [f"# {line}" for line in title.splitlines()]
    lines += [f"version: {schema.version}", "columns:"]
    for name, rule in schema.columns.items():
        note = (notes or {}).get(name)
        lines.append(f"  {_scalar(name)}:" + (f"  # {note}" if note else ""))
        for key, value in rule.model_dump(exclude_defaults=True).items():
            text = f"[{', '.join(_scalar(v) for v in value)}]" if isinstance(value, list) else _scalar(value)
            lines.append(f"    {key}: {text}")
    return ("\n".join(lines) + "\n").encode("utf-8")


def _scalar(value: object) -> str:
    """One YAML scalar in a line, quoted where YAML would read something else (no, 1e3, a: b)."""
    text: str = yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True)
    return text.strip()[1:-1]


def write_schema(path: Path, schema: Schema, title: str, notes: Mapping[str, str]) -> None:
    """Write a schema file, whole or not at all."""
    write_atomic(path, schema_yaml(schema, title, notes))
