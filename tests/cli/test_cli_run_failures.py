"""`fairlead run` and other commands that end in somebody else's fault: the cause first, an exit code, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.testing.full_disk import unfinished
from fairlead.wiring.local_ray import ray_folder, temp_dir_of

PROJECT = """
project: orders
data: {source: rows.parquet, label: {column: late}, split: {by: random}, validate: {schema: schema.yaml}}
features: {numeric: [weight, distance]}
train: {launcher: ray, workers: 1}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with good rows and a project file that wants Ray."""
    rng = np.random.default_rng(4)
    weight = rng.normal(size=300)
    late = weight + rng.normal(0, 2, 300) > 0
    pq.write_table(
        pa.table({"weight": weight, "distance": rng.normal(size=300), "late": late}), tmp_path / "rows.parquet"
    )
    (tmp_path / "fairlead.yaml").write_text(PROJECT)
    return tmp_path


def fairlead(project: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli", *words],
        capture_output=True, text=True, cwd=project, env=clean, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def error_of(out: str) -> dict[str, Any]:
    return dict(json.loads(out)["error"])


def test_a_step_that_fails_ends_the_run_with_its_own_code_and_the_cause_first(project: Path) -> None:
    rows = project / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:-100])
    code, out, err = fairlead(project, "run")
    assert (code, out) == (3, "")
    told = err[err.index("FL-") :].splitlines()
    assert told[0].startswith("FL-202: ")
    assert "rows.parquet" in told[0] + told[1]
    assert any(line.startswith("  fix: ") and "pipeline.log" in line for line in told)
    assert "Traceback" not in err
    assert not list(project.glob(".fairlead/runs/*/results/*.json"))
    assert unfinished(project) == []


def test_a_run_from_a_step_that_nothing_leads_to_says_what_is_missing(project: Path) -> None:
    code, out, _ = fairlead(project, "run", "--from", "evaluate", "-o", "json")
    error = error_of(out)
    assert (code, error["code"], error["fix"]) == (2, "FL-101", "fairlead run --to train")
    assert error["where"]


@pytest.mark.parametrize("words", [("up",), ("train",)])
def test_a_ray_that_cannot_start_is_told_and_nothing_is_trained(project: Path, words: tuple[str, ...]) -> None:
    trap = temp_dir_of(project)
    trap.symlink_to(project)  # Ray's own folder is not this project's to use
    try:
        code, out, err = fairlead(project, *words, "-o", "json")
    finally:
        trap.unlink()
    error = error_of(out)
    assert (code, error["code"], error["where"]) == (8, "FL-801", str(trap))
    assert error["fix"]
    assert "Traceback" not in err
    assert not (ray_folder(project) / "local.json").exists()
    assert not list(project.glob(".fairlead/drafts/*"))
    assert unfinished(project) == []
