"""What a client did wrong, as it is told: a status, a code, a sentence and the field to blame.

These never become a 5xx: they are raised while a request is read, and answered by whichever door read it.
"""

import orjson


class Refusal(Exception):
    """A request that is not answered by a model. `field` names the input to blame ("" when none is)."""

    def __init__(
        self, status: int, code: str, message: str, *, field: str = "", retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> bytes:
        """The JSON body of the answer."""
        return orjson.dumps({"error": self.message, "code": self.code, "field": self.field})

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers beyond the content type and length."""
        if self.retry_after_seconds is None:
            return []
        return [(b"retry-after", str(self.retry_after_seconds).encode())]


def bad_field(field: str, message: str, code: str = "invalid_field") -> Refusal:
    """A 400 that names the field."""
    return Refusal(400, code, message, field=field)


def overloaded() -> Refusal:
    """A 429: too many requests wait already. Always the same."""
    return Refusal(429, "overloaded", "too many requests wait already; try again", retry_after_seconds=1)


def unavailable(code: str, message: str) -> Refusal:
    """A 503: nobody can answer in time."""
    return Refusal(503, code, message, retry_after_seconds=1)
