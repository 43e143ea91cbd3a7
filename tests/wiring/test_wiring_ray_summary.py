"""Statistics on a real Ray: the bytes of one process, errors as they are, a driver that does not grow with the rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.data.sources import Source
from fairlead.data.summary.stream import Question, summarise
from fairlead.errors import SourceUnreadable
from fairlead.spec.data import Data
from fairlead.wiring.ray_summary import ray_engine

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

FILES = 104
DRIVER = """
import json, resource, sys
from pathlib import Path
from fairlead.data.sources import Source
from fairlead.data.summary.stream import Question
from fairlead.spec.data import Data
from fairlead.wiring.local_ray import connect
from fairlead.wiring.ray_summary import ray_engine
ray_base = Path(sys.argv[1])
connect(ray_base)
data = Data.model_validate(json.loads(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = ray_engine(ray_base, 2)(Source(data, ray_base), Question(data), None, lambda rows: None)
print(json.dumps([total.rows, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def write_days(folder: Path, files: int, rows: int) -> Data:
    """A file a day over some months."""
    folder.mkdir(exist_ok=True)
    for day in range(files):
        rng = np.random.default_rng(day)
        begin = np.datetime64("2024-01-01", "us") + np.timedelta64(day, "D")
        table = pa.table(
            {
                "x": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
                "n": rng.integers(0, 10**6, rows),
                "town": [f"town {i}" for i in rng.integers(0, 3000, rows)],
                "at": begin + rng.integers(0, 86_400, rows).astype("timedelta64[s]"),
                "late": rng.random(rows) < 0.3,
            }
        )
        pq.write_table(table, folder / f"day-{day:03d}.parquet")
    split = {"by": "time", "validation": "2024-03-01", "test": "2024-04-01"}
    facts = {"source": str(folder), "label": {"column": "late"}, "time": "at", "split": split}
    return Data.model_validate(facts)


def test_one_two_and_four_tasks_give_the_bytes_of_one_process(local_ray_base: Path, tmp_path: Path) -> None:
    data = write_days(tmp_path / "days", FILES, 400)
    alone = summarise(Source(data, local_ray_base), Question(data))
    assert alone.rows == FILES * 400
    told: list[int] = []
    for tasks in (1, 2, 4):
        engine = ray_engine(local_ray_base, tasks)
        found = engine(Source(data, local_ray_base), Question(data), None, told.append)
        assert found.to_json() == alone.to_json(), f"{tasks} tasks"
    assert sum(told) == 3 * alone.rows
    kept = ray_engine(local_ray_base, 2)(Source(data, local_ray_base), Question(data), local_ray_base, told.append)
    assert kept.to_json() == alone.to_json()
    assert summarise(Source(data, local_ray_base), Question(data), local_ray_base).to_json() == alone.to_json()


def test_the_command_says_the_same_with_workers_as_without(
    local_ray_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_days(tmp_path / "days", 40, 200).model_dump(mode="json", by_alias=True)
    spec = {"project": "days", "data": data, "features": {"numeric": ["x", "n"], "categorical": ["town"]}}
    file = local_ray_base / "days.yaml"
    file.write_text(json.dumps(spec))
    found = []
    for words in ([], ["--workers", "2"], ["--workers", "2", "--no-cache"]):
        page = tmp_path / f"{len(found)}.html"
        assert main(["data", "profile", "-f", str(file), "-o", "json", "--html", str(page), *words]) == 0
        value = json.loads(capsys.readouterr().out)
        assert value["rows"] == 8000
        assert page.stat().st_size > 10_000
        found.append({k: v for k, v in value.items() if k not in ("seconds", "memory_peak_bytes")})
    assert found[0] == found[1] == found[2]


def test_a_tasks_refusal_is_the_commands(local_ray_base: Path, tmp_path: Path) -> None:
    data = write_days(tmp_path / "days", 20, 50)
    path = tmp_path / "days" / "day-017.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[10:200] = b"\xff" * 190
    path.write_bytes(damaged)
    with pytest.raises(SourceUnreadable) as found:
        ray_engine(local_ray_base, 2)(Source(data, local_ray_base), Question(data), None, lambda rows: None)
    assert "day-017" in str(found.value)


def test_the_drivers_memory_does_not_grow_with_the_rows(local_ray_base: Path, tmp_path: Path) -> None:
    grown: list[Any] = []
    for rows in (200, 20_000):
        data = write_days(tmp_path / f"days-{rows}", 100, rows)
        words = [sys.executable, "-c", DRIVER, str(local_ray_base), data.model_dump_json(by_alias=True)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        read, before, after = json.loads(done.stdout.splitlines()[-1])
        assert read == 100 * rows
        grown.append((after - before) / 1024)
    # 100 times the rows are 80 MB more of decoded columns; what sketches hold is full at both sizes.
    assert grown[1] < grown[0] + 25, f"MiB taken: {grown}"
