"""How a person writes amounts: ``0.1%``, ``30s``, ``1d``, ``512MiB``."""

import math
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_share(value: Any) -> Any:
    """``0.1%`` and 0.001 are the same share, 0 to 1."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9.]+)\s*%\s*", value)):
        return float(match.group(1)) / 100
    return value


def parse_seconds(value: Any) -> Any:
    """``90``, ``90s``, ``1.5m``, ``2h``, ``1d`` as seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*(ms|s|min|m|h|d|w)\s*", value)
        if not match:
            raise ValueError("expected a duration such as 30s, 5m, 2h or 1d")
        return float(match.group(1)) * _SECONDS[match.group(2)]
    return value


def parse_bytes(value: Any) -> Any:
    """``512MiB`` or a number of bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*(B|KB|MB|GB|KiB|MiB|GiB)\s*", value)
        if not match:
            raise ValueError("expected a size such as 512MiB or 2GB")
        size = float(match.group(1)) * _BYTES[match.group(2)]
        if not math.isfinite(size):
            raise ValueError("there is no size as large as that")
        return int(size)
    return value


def parse_instant(value: Any) -> Any:
    """A date or a date with time; without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("expected a date such as 2013-07-01 or 2013-07-01T12:00:00Z") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value


Share = Annotated[float, BeforeValidator(parse_share)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
ByteCount = Annotated[int, BeforeValidator(parse_bytes)]
Instant = Annotated[datetime, BeforeValidator(parse_instant)]


def is_value(default: object) -> Any:
    """For `exclude_if`: fields that came later stay out of a project's digest while they have their default."""
    return lambda value: value == default


class Section(BaseModel):
    """The base of all sections: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
