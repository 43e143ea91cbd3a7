"""The ``data`` section: where rows come from, which are believed, and which side of a split they are on."""

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fairlead.spec.quantities import Instant, Seconds, Section, Share, is_value


def parse_delimiter(value: Any) -> Any:
    """One character between the fields of a row; ``tab`` is a tab."""
    if value in ("tab", "\\t"):
        return "\t"
    if isinstance(value, str) and (len(value) != 1 or value.isalnum() or value in "\"'.+-_\r\n\0" or ord(value) > 127):
        raise ValueError('expected one character such as ";", "|" or "tab"')
    return value


Delimiter = Annotated[str, BeforeValidator(parse_delimiter)]


# Why a row is refused, as anomalies name it (`data.suggestions.KINDS` has the same; a test holds the two together).
REJECTED_KINDS = (
    "wrong_type",
    "missing_required",
    "not_finite",
    "below_min",
    "above_max",
    "beyond_calendar",
    "not_of_pattern",
    "not_in_values",
    "not_unique",
    "goes_back",
    "too_few_items",
    "too_many_items",
    "wrong_columns",
    "open_quote",
    "not_json",
    "key_twice",
)


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

    by: Literal["time", "group", "stratified", "random", "time+group", "group+stratified"] = Field(
        "random",
        description="What decides a row's side. time+group: by time, and entities that trained do not test. "
        "group+stratified: whole entities, the label's shares alike on all sides.",
    )
    validation: Instant | Share = Field(
        0.2, description="by time: rows from this instant validate. Otherwise: the share of rows that validate."
    )
    test: Instant | Share = Field(
        0.2, description="by time: rows from this instant test. Otherwise: the share of rows that test."
    )
    until: Instant | None = Field(None, description="by time: rows from this instant on are left out altogether.")
    embargo: Seconds = Field(
        0.0,
        ge=0,
        description="by time: rows this long before validation begins, and before test begins, are left out.",
        exclude_if=is_value(0),
    )
    seed: int = Field(7, ge=0, description="Seed of the random parts.")

    @property
    def in_time(self) -> bool:
        """Does time decide?"""
        return self.by in ("time", "time+group")

    @property
    def in_groups(self) -> bool:
        """Does the entity decide?"""
        return self.by in ("group", "time+group", "group+stratified")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.embargo and not self.in_time:
            raise ValueError("embargo needs a split by time")
        if self.in_time:
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
            if self.until is not None and not self.in_time:
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
    min_rows: int | None = Field(
        None, ge=1, description="Rows of the whole below which validation warns.", exclude_if=is_value(None)
    )
    max_rows: int | None = Field(
        None, ge=1, description="Rows of the whole above which validation warns.", exclude_if=is_value(None)
    )
    max_rejected_by: dict[str, Share] = Field(
        default_factory=dict,
        description="The same as max_rejected for one kind of anomaly alone: {below_min: 0, wrong_type: 1%}.",
        exclude_if=is_value({}),
    )
    fail_on: Literal["never", "severe", "any"] = Field(
        "never",
        description="Which anomalies of the whole, which refuse no row, fail the step: severe ones, any, or none.",
        exclude_if=is_value("never"),
    )
    environment: Literal["training", "serving"] = Field(
        "training",
        description="What fairlead data validate takes the rows for: at serving the label, and columns that the schema "
        "has at training only, are not looked for. Splitting and training are training, whatever it says.",
        exclude_if=is_value("training"),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_rows is not None and self.max_rows is not None and self.min_rows > self.max_rows:
            raise ValueError("min_rows is above max_rows")
        for kind, share in self.max_rejected_by.items():
            if kind not in REJECTED_KINDS:
                near = difflib.get_close_matches(kind, REJECTED_KINDS, 1)
                hint = f"did you mean {near[0]}?" if near else f"kinds are {', '.join(REJECTED_KINDS)}"
                raise ValueError(f"max_rejected_by has no kind {kind}; {hint}")
            if not 0 <= share <= 1:
                raise ValueError(f"max_rejected_by.{kind} must be a share from 0 to 1")
        return self


class Leaks(Section):
    """The scan for features that know the answer."""

    allow: dict[str, str] | tuple[str, ...] = Field(
        (),
        description="Findings that are none, by name, each with the reason: {dep_time: from the gate system, in time}.",
    )
    max_auc: float = Field(0.85, gt=0.5, le=1, description="A single feature above this AUC is a leak.")
    known_at: dict[str, str] = Field(
        default_factory=dict,
        description="The column that says when a feature's value became known; later than data.time is a leak.",
        exclude_if=is_value({}),
    )

    def reasons(self) -> dict[str, str]:
        """Name -> reason of what is allowed; "" where the file gives none."""
        return dict(self.allow) if isinstance(self.allow, dict) else dict.fromkeys(self.allow, "")


class Sample(Section):
    """A part of the training split instead of all of it."""

    rows: int = Field(ge=20, description="How many training rows to draw at most.")
    by: Literal["simple", "stratified", "weighted", "importance"] = Field(
        "simple",
        description="simple: a reservoir, all rows alike. stratified: each class keeps its share. weighted: chances "
        "grow with the column chance. importance: the same, and each drawn row weighs what it stands for.",
    )
    chance: str | None = Field(None, description="weighted, importance: the column of the chances, at least 0.")
    seed: int = Field(7, ge=0, description="Seed of the draw.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.by in ("weighted", "importance")) != (self.chance is not None):
            raise ValueError(
                "chance names the column of the chances for by: weighted and by: importance, and only there"
            )
        return self


class Balance(Section):
    """What is done about rare classes, in the training split only."""

    how: Literal["none", "weights", "effective_number", "undersample", "oversample"] = Field(
        "none",
        description="weights: every class counts alike in the loss. effective_number: by (1 - b) / (1 - b^n). "
        "undersample: as many rows of each class as of the rarest. oversample: as many as of the most frequent.",
    )
    beta: float = Field(0.999, gt=0, lt=1, description="effective_number: b, near 1 for large classes.")

    @property
    def weighs(self) -> bool:
        """Are classes weighted, and not drawn more or less often?"""
        return self.how in ("weights", "effective_number")


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
    weight: str | None = Field(
        None,
        description="The column that says how much a row counts, in the loss, in every metric and in the baselines; at "
        "least 0. Rows of weight 0 are left out.",
        exclude_if=is_value(None),
    )
    sample: Sample | None = Field(None, description="Train on a part of the training split.", exclude_if=is_value(None))
    balance: Balance = Field(
        default_factory=Balance,
        description="What is done about rare classes, in the training split only.",
        exclude_if=is_value(Balance()),
    )
    near_duplicates: Literal["tell", "keep_together"] = Field(
        "tell",
        description="Rows that agree in all features and the label but one: told, or kept on one side (by time: left "
        "out of the later side).",
        exclude_if=is_value("tell"),
    )
    split: Split = Field(default_factory=Split, description="Which rows train, validate and test.")
    validate_: Validate = Field(default_factory=Validate, alias="validate", description="Which rows are believed.")
    leaks: Leaks = Field(default_factory=Leaks, description="The scan for features that know the answer.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.split.in_time and not self.time:
            raise ValueError("a split by time needs data.time, the column that says when a row was known")
        if self.split.in_groups and not self.entity:
            raise ValueError("a split by group needs data.entity, the column that names the group")
        if self.leaks.known_at and not self.time:
            raise ValueError("leaks.known_at needs data.time, the moment of prediction that it is held against")
        return self
