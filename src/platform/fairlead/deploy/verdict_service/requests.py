"""What another controller asks, read from a query or from a Flagger payload. Bad input is refused, never guessed at."""

import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_BYTES = 2048
HOOKS = ("confirm-traffic-increase", "confirm-promotion", "rollback")
"""The types of Flagger's webhooks that a verdict can answer."""

_WHOSE = ("rollout", "version", "digest")
_QUERY = frozenset({*_WHOSE, "model", "weight"})
_METADATA = _QUERY | {"token"}
_PATTERNS = {
    "rollout": (re.compile(r"[0-9]{1,12}", re.ASCII), "a rollout's number, as in 0007"),
    "version": (re.compile(r"[1-9][0-9]{0,8}", re.ASCII), "a version's number, as in 12"),
    "digest": (re.compile(r"sha256:[0-9a-f]{1,64}", re.ASCII), "a bundle's digest, as in sha256:8c5f..."),
    "weight": (re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?", re.ASCII), "a percentage above 0 and up to 100, as in 12.5"),
}


class Refused(Exception):
    """A request that gets no verdict: an HTTP status, a code for machines, a sentence, and the input to blame."""

    def __init__(self, status: int, code: str, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field

    def body(self) -> dict[str, object]:
        """The JSON body of the answer."""
        return {"error": self.message, "code": self.code, "field": self.field}


@dataclass(frozen=True, slots=True)
class Question:
    """Whose traffic, and how much of it. One of `rollout`, `version` and `digest` names the candidate: "the newest
    rollout" might be another candidate's, and its verdict would promote the wrong one."""

    rollout: str = ""
    version: int = 0
    digest: str = ""
    wanted_percent: float = 100.0

    def words(self) -> str:
        """The candidate as asked for."""
        return next(
            text
            for text, given in (
                (f"rollout {self.rollout}", self.rollout),
                (f"version {self.version}", self.version),
                (f"bundle {self.digest}", True),
            )
            if given
        )


def read_query(query: bytes, model: str) -> Question:
    """The question of ``GET /v1/verdict?version=12&weight=10``. Raises Refused (400)."""
    if len(query) > MAX_QUERY_BYTES:
        raise Refused(414, "query_too_long", f"the query is longer than {MAX_QUERY_BYTES} bytes", field="query")
    try:
        text = query.decode("ascii")
        pairs = urllib.parse.parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=10
        )
    except ValueError as error:
        raise Refused(400, "bad_query", f"the query cannot be read: {error}", field="query") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise Refused(400, "duplicate_parameter", f"{_shown(name)} is given twice", field=_shown(name))
        values[name] = value
    return _question(values, _QUERY, model, place="")


def read_payload(body: bytes, model: str) -> tuple[Question, str]:
    """The question of a Flagger webhook, which is in its ``metadata``, and the token there. Raises Refused (400)."""
    try:
        document = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "invalid_json", f"the body is no JSON: {str(error)[:100]}", field="body") from None
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Refused(
            400,
            "no_metadata",
            "the body needs metadata, an object of strings that names the candidate",
            field="metadata",
        )
    return _question(metadata, _METADATA, model, place="metadata."), metadata.get("token", "")


def peek_token(body: bytes) -> str:
    """The token in a Flagger payload, "" where there is none: whoever has none learns nothing else about the body."""
    try:
        document = json.loads(body, parse_constant=_no_constant)
        token = document["metadata"]["token"]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return ""
    return token if isinstance(token, str) else ""


def _question(values: Mapping[str, str], known: frozenset[str], model: str, place: str) -> Question:
    for name in values:
        if name not in known:
            listed = ", ".join(sorted(known - {"token"}))
            raise Refused(400, "unknown_parameter", f"{_shown(name)} is none of {listed}", field=place + _shown(name))
    for name, (pattern, expected) in _PATTERNS.items():
        if name in values and not pattern.fullmatch(values[name]):
            raise Refused(400, "bad_parameter", f"{name} must be {expected}", field=place + name)
    if values.get("model", model) != model:
        raise Refused(404, "unknown_model", f"the rollouts here are of {model}", field=place + "model")
    given = [name for name in _WHOSE if name in values]
    if len(given) != 1:
        raise Refused(
            400, "which_candidate", f"name the candidate by exactly one of {', '.join(_WHOSE)}", field=place + "version"
        )
    wanted = float(values.get("weight", "100"))
    if not 0 < wanted <= 100:
        raise Refused(400, "bad_parameter", f"weight must be {_PATTERNS['weight'][1]}", field=place + "weight")
    return Question(values.get("rollout", ""), int(values.get("version", "0")), values.get("digest", ""), wanted)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _shown(name: str) -> str:
    return name[:40].encode("ascii", "replace").decode()
