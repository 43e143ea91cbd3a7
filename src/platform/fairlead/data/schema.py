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


class ColumnRule(BaseModel):
    """What one column must be. A row that breaks a rule is rejected."""

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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.min is not None or self.max is not None) and self.type not in ("int", "float"):
            raise ValueError(f"min and max are for numbers, not for {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        if self.values is not None and self.type != "string":
            raise ValueError(f"values are for strings, not for {self.type}")
        if self.unit is not None and self.type not in ("int", "float"):
            raise ValueError(f"a unit is for numbers, not for {self.type}")
        if self.pattern is not None:
            if self.type != "string":
                raise ValueError(f"a pattern is for strings, not for {self.type}")
            try:
                pc.match_substring_regex(pa.array([""]), self.pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"pattern is no regular expression: {error}") from error
        if self.new_values == "reject" and not self.values:
            raise ValueError("new_values: reject needs values")
        return self


class Schema(BaseModel):
    """All columns that are read. Columns of a file that are not listed are ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    columns: dict[str, ColumnRule] = Field(min_length=1)

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
