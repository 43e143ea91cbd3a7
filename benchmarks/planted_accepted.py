"""What `fairlead data schema accept`, `data validate` and `data drift` say of a second window once the first one was
accepted. A build of Fairlead without these commands says nothing here."""

import importlib
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from fairlead.errors import DataError
from fairlead.testing.fake_clock import FakeClock
from fairlead.wiring.context import open_context

_START = datetime(2024, 1, 1, tzinfo=UTC)
WHOLE = ""


def available() -> bool:
    """Are the commands there?"""
    return importlib.util.find_spec("fairlead.wiring.baseline") is not None


class Accepted:
    """A project whose first window was accepted on the day after it. `current` is the folder of the second."""

    def __init__(self, base: Path, project: dict[str, Any], current: str) -> None:
        validate = {**project["data"].get("validate", {}), "max_age": "7d"}
        project = {**project, "data": {**project["data"], "validate": validate}}
        self._file = base / "fairlead.yaml"
        self._file.write_text(yaml.safe_dump(project))
        self._current = current
        self._baseline = importlib.import_module("fairlead.wiring.baseline")
        self._baseline.accept(open_context(self._file), clock=FakeClock(_START + timedelta(days=57)))

    def never_negative(self, schema: Any) -> dict[str, int]:
        """The columns that had no negative value in the first window."""
        found: dict[str, int] = self._baseline.never_negative(open_context(self._file), schema)
        return found

    def anomalies(self, schema: Any, file_rows: tuple[int, ...]) -> dict[str, str]:
        """Column ("" is the batch) -> what validation says on the day after the second window."""
        context = open_context(self._file, [f"data.source={self._current}"])
        clock = FakeClock(_START + timedelta(days=113))
        found = self._baseline.present_anomalies(context, schema, file_rows, clock=clock)
        return {one.column: one.what for one in found}

    def drift(self) -> dict[str, str]:
        """Column -> what the comparison of the two windows says; the label under its name."""
        windows = importlib.import_module("fairlead.data.windows")
        comparison = importlib.import_module("fairlead.wiring.drift")
        context = open_context(self._file)
        whole = windows.Window("all")
        try:
            found = comparison.compare(context, whole, whole, self._current).drift
        except DataError as error:
            return {WHOLE: error.what}
        said = {one.column: one.cause or one.what for one in found.columns if one.moved}
        if found.shift.kind in ("label", "concept", "mixed"):
            said.setdefault(context.project.data.label.column, f"{found.shift.kind}: {found.shift.why}")
        for link in getattr(found, "links", ()):
            for name in (link.first, link.second):
                said.setdefault(name, link.what)
        return said
