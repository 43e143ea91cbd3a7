"""The ``features`` section: which columns the model sees, and how each becomes numbers."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fairlead.spec.quantities import Section


class Numeric(Section):
    """A number: missing values imputed (with an indicator when any were missing), clipped, scaled."""

    impute: Literal["mean", "median", "zero"] | float = Field("median", description="What stands for a missing value.")
    clip: tuple[float, float] | None = Field(
        None, description="Quantiles of the training split to clip at, e.g. [0.001, 0.999]."
    )
    scale: Literal["standard", "none"] = Field(
        "standard", description="standard: (x - mean) / std of the training split."
    )


class Categorical(Section):
    """A category: an index into the training split's vocabulary, or a hash bucket. Missing has an index of its own."""

    encode: Literal["vocabulary", "hash"] = Field("vocabulary", description="How a value becomes an index.")
    max_values: int = Field(10_000, ge=1, description="Vocabulary: the most frequent values that get an index.")
    min_count: int = Field(1, ge=1, description="Vocabulary: rarer values are out of vocabulary.")
    oov_buckets: int = Field(1, ge=1, description="Indices shared by values out of vocabulary, by hash.")
    buckets: int = Field(1024, ge=2, description="hash: number of buckets.")


class Datetime(Section):
    """A point in time: calendar parts as it was written, without conversion between zones."""

    parts: tuple[Literal["hour", "minute", "weekday", "day", "month", "dayofyear", "week"], ...] = Field(
        ("hour", "weekday", "month"), min_length=1, description="Calendar parts; each becomes a category."
    )


class Image(Section):
    """A picture or another fixed-shape block of numbers, in a list column."""

    shape: tuple[int, ...] = Field(description="Channels, height, width.", min_length=2, max_length=3)
    scale: float = Field(1.0, gt=0, description="Values are divided by this.")


class Features(Section):
    """Lists of names take the defaults; a mapping gives options per column."""

    numeric: tuple[str, ...] | dict[str, Numeric] = Field((), description="Numbers.")
    categorical: tuple[str, ...] | dict[str, Categorical] = Field((), description="Categories.")
    datetime: tuple[str, ...] | dict[str, Datetime] = Field((), description="Points in time.")
    image: dict[str, Image] = Field(default_factory=dict, description="Pictures.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [*self.numeric, *self.categorical, *self.datetime, *self.image]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        if not names:
            raise ValueError("name at least one feature")
        return self

    def names(self) -> tuple[str, ...]:
        """All feature columns, in the order numeric, categorical, datetime, image."""
        return (*self.numeric, *self.categorical, *self.datetime, *self.image)

    def numeric_options(self) -> dict[str, Numeric]:
        """Options of each numeric column."""
        return dict(self.numeric) if isinstance(self.numeric, dict) else {n: Numeric() for n in self.numeric}

    def categorical_options(self) -> dict[str, Categorical]:
        """Options of each categorical column."""
        if isinstance(self.categorical, dict):
            return dict(self.categorical)
        return {n: Categorical() for n in self.categorical}

    def datetime_options(self) -> dict[str, Datetime]:
        """Options of each datetime column."""
        return dict(self.datetime) if isinstance(self.datetime, dict) else {n: Datetime() for n in self.datetime}
