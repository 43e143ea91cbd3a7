"""A small project whose steps run from the compiled pipeline: data in the project folder, everything else in S3."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairlead.wiring.context import Context, open_context

_WIRING = Path(__file__).resolve().parents[1] / "wiring" / "wiring_world.py"


def _wiring_world() -> Any:
    spec = importlib.util.spec_from_file_location("pipeline_wiring_world", _WIRING)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


WIRING = _wiring_world()


def write_project(base: Path, store: str, rows: int = 1600, *, more: str = "") -> Path:
    """The project folder with its rows; returns the project file."""
    base.mkdir(parents=True, exist_ok=True)
    pq.write_table(WIRING.rows(rows, 1), base / "rows.parquet")
    text = WIRING.PROJECT.replace("PORT", str(WIRING.free_port())).replace(
        "project: orders", f"project: orders\nstore: {store}"
    )
    file = base / "fairlead.yaml"
    file.write_text(text + more)
    return file


def opened(file: Path, *overrides: str) -> Context:
    """The project as the command line sees it."""
    return open_context(file, overrides)
