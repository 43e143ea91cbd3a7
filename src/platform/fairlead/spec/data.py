"""The ``data`` section: where rows come from, which are believed, and which side of a split they are on."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fairlead.spec.quantities import Instant, Seconds, Section, Share


def parse_delimiter(value: Any) -> Any:
    """One character between the fields of a row; ``tab`` is a tab."""
    if value in ("tab", "\\t"):
        return "\t"
    if isinstance(value, str) and (len(value) != 1 or value.isalnum() or value in "\"'.+-_\r\n\0" or ord(value) > 127):
        raise ValueError('expected one character such as ";", "|" or "tab"')
    return value


Delimiter = Annotated[str, BeforeValidator(parse_delimiter)]


class Label(Section):
    """What is to be predicted."""

    column: str = Field(description="The column that holds the label.")
    positive: bool | int | str | None = Field(
        None, description="The value that counts as positive, for a label with two values."
    )
    task: Literal["auto", "binary", "multiclass", "regression"] = Field(
        "auto", description="The kind of prediction; auto: from the label's type and number of values."
    )


class Split(Section):
    """Which rows train, validate and test."""

    by: Literal["time", "group", "stratified", "random"] = Field("random", description="What decides a row's side.")
    validation: Instant | Share = Field(
        0.2, description="by time: rows from this instant validate. Otherwise: the share of rows that validate."
    )
    test: Instant | Share = Field(
        0.2, description="by time: rows from this instant test. Otherwise: the share of rows that test."
    )
    until: Instant | None = Field(None, description="by time: rows from this instant on are left out altogether.")
    seed: int = Field(7, ge=0, description="Seed of the random parts.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.by == "time":
            if isinstance(self.validation, float | int) or isinstance(self.test, float | int):
                if not (isinstance(self.validation, float | int) and isinstance(self.test, float | int)):
                    raise ValueError(
                        "validation and test must both be dates, or both be shares of the rows in time order"
                    )
            elif self.validation >= self.test:
                raise ValueError("validation must begin before test")
            elif self.until is not None and self.until <= self.test:
                raise ValueError("until must be after test begins")
        elif not isinstance(self.validation, float | int) or not isinstance(self.test, float | int):
            raise ValueError(f"a split by {self.by} takes shares such as 0.2, not dates")
        if isinstance(self.validation, float | int) and isinstance(self.test, float | int):
            if not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 0.95):
                raise ValueError("validation and test must be above 0 and leave at least 5 % of the rows to train on")
            if self.until is not None and self.by != "time":
                raise ValueError("until needs a split by time")
        return self


class Validate(Section):
    """Which rows are believed."""

    schema_file: str | None = Field(
        None, alias="schema", description="The schema file (YAML). Inferred and written there when it does not exist."
    )
    max_rejected: Share = Field(
        0.001, ge=0, le=1, description="Share of rows that may break the schema before the step fails."
    )
    max_age: Seconds | None = Field(
        None, gt=0, description="Age of the newest row (data.time) beyond which validation warns."
    )


class Leaks(Section):
    """The scan for features that know the answer."""

    allow: tuple[str, ...] = Field((), description="Features that may predict the label this well: known in time.")
    max_auc: float = Field(0.85, gt=0.5, le=1, description="A single feature above this AUC is a leak.")


class Data(Section):
    """Sources, label, time, entity, split, validation, leaks."""

    source: str | tuple[str, ...] = Field(
        description="Files: a path, a folder, a glob, or s3://bucket/prefix. Relative to the project file."
    )
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field("auto", description="auto: by file name.")
    delimiter: Delimiter = Field(
        ",", description="What separates the fields of CSV files: one character, or tab. Decimals have a point."
    )
    label: Label = Field(description="What is to be predicted.")
    time: str | None = Field(None, description="The column that says when a row was known; enables time splits.")
    entity: str | None = Field(
        None, description="The column that names who or what a row is about; enables group splits."
    )
    duplicates: Literal["keep_together", "drop"] = Field(
        "keep_together", description="Rows equal in all columns: kept on one side of a split, or dropped but one."
    )
    split: Split = Field(default_factory=Split, description="Which rows train, validate and test.")
    validate_: Validate = Field(default_factory=Validate, alias="validate", description="Which rows are believed.")
    leaks: Leaks = Field(default_factory=Leaks, description="The scan for features that know the answer.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.split.by == "time" and not self.time:
            raise ValueError("a split by time needs data.time, the column that says when a row was known")
        if self.split.by == "group" and not self.entity:
            raise ValueError("a split by group needs data.entity, the column that names the group")
        return self
