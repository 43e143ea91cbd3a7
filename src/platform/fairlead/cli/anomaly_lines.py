"""The anomalies of `fairlead data validate`, a few lines for a person; `-o json` and the report have all of them."""

import shlex
from collections.abc import Mapping
from typing import Any

_MOST = 10
_SHORT = 120


def anomaly_lines(result: Mapping[str, Any]) -> str:
    """Two lines for each of the first anomalies: what, and where it stands first; the change of the schema."""
    found = result.get("anomalies", [])
    lines = []
    for one in found[:_MOST]:
        word = "severe " if one["severe"] else "warning"
        lines.append(f"{word}  {one['column'] or '(whole)'}  {one['kind']}  {one['what']}{_first(one)}")
        if one["change"]:
            lines.append(f"         or: fairlead data schema accept {_accepting(one)}")
    if len(found) > _MOST:
        lines.append(f"and {len(found) - _MOST} more: see the report, or -o json")
    return "".join(f"{line}\n" for line in lines)


def _accepting(one: Mapping[str, Any]) -> str:
    """The change; a long one (a list of values) by its column, which takes the data as they are."""
    change = str(one["change"])
    return f"--change {shlex.quote(change)}" if len(change) <= _SHORT else f"--column {shlex.quote(one['column'])}"


def _first(one: Mapping[str, Any]) -> str:
    if one["places"]:
        place = one["places"][0]
        such = f"such as {place['value']!r}, " if place["value"] else "first in "
        return f" ({such}{place['file']} row {place['row']:,})"
    return f" (such as {', '.join(one['examples'])})" if one["examples"] else ""
