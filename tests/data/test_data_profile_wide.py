"""Wide tables: what is under way follows from the memory that is given, and the statistics do not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data import leak_sample, readers
from fairlead.data.checks import Checker
from fairlead.data.leak_sample import draw_sample
from fairlead.data.readers import BATCH_ROWS, batch_rows
from fairlead.data.schema import Schema
from fairlead.data.sources import Source, num_threads
from fairlead.data.summary.frequent import FrequentItems
from fairlead.data.summary.numbers import NumberSummary
from fairlead.data.summary.stream import Question, summarise, under_way
from fairlead.spec.data import Data

DATA = {"source": "rows.parquet", "label": {"column": "late", "positive": "yes"}}
COLUMNS, ROWS, GROUP = 600, 20_000, 4000
MIB = 2**20
# The statistics and the sample of the leak scan, as `data profile` asks for them; prints MiB before and at most.
PROGRAM = """
import json, sys
from pathlib import Path
from fairlead.data.checks import Checker
from fairlead.data.leak_sample import draw_sample
from fairlead.data.schema import Schema
from fairlead.data.sources import Source
from fairlead.data.summary.stream import Question, summarise, under_way
from fairlead.spec.data import Data

def mib(name):
    return int(Path("/proc/self/status").read_text().partition(name + ":")[2].split()[0]) // 1024

data, memory = Data.model_validate(json.loads(sys.argv[2])), int(sys.argv[3])
source = Source(data, Path(sys.argv[1]))
names = source.schemas[0].names
before = mib("VmRSS")
summary = summarise(source, Question(data), memory_bytes=memory)
statistics = mib("VmHWM")
schema = Schema.model_validate({"columns": {n: {"type": "string" if n == "late" else "float"} for n in names}})
checker = Checker(schema, [file.uri for file in source.files])
bounds = under_way(source, memory, len(names))
sample = draw_sample(source, checker, memory // 8, bounds.threads, under_way=bounds.tasks)
print(json.dumps([summary.rows, sample.rows, before, statistics, mib("VmHWM")]))
"""


def write_wide(path: Path, columns: int, rows: int, group: int) -> None:
    """Numbers that are nearly all different, a tenth of the columns with 3,000 values; a row group at a time."""
    rng = np.random.default_rng(3)
    names = [f"c{number}" for number in range(columns)]
    schema = pa.schema([("late", pa.string()), *((name, pa.float64()) for name in names)])
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="NONE") as writer:
        for _ in range(0, rows, group):
            late = np.where(rng.random(group) < 0.3, "yes", "no")
            values = rng.normal(size=(columns, group))
            values[::10] = np.floor(values[::10] * 500)
            writer.write_table(pa.table([pa.array(late), *(pa.array(column) for column in values)], schema=schema))


def source_of(base: Path) -> tuple[Source, Data]:
    """The file, as a project would name it."""
    data = Data.model_validate(DATA)
    return Source(data, base), data


def test_memory_of_a_wide_table_is_bounded(tmp_path: Path) -> None:
    """96 MB of numbers, of which some 315 MiB are taken; with as much under way as of a narrow table 590 MiB."""
    write_wide(tmp_path / "rows.parquet", COLUMNS, ROWS, GROUP)
    memory = 384 * MIB
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(DATA), str(memory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows, sampled, before, statistics, peak = json.loads(run.stdout)
    assert rows == ROWS
    assert 0 < sampled < ROWS
    assert statistics - before <= memory // MIB, (before, statistics, peak)
    assert peak - before <= memory // MIB, (before, statistics, peak)


def test_threads_and_memory_change_nothing_of_a_wide_table(tmp_path: Path) -> None:
    """Row groups of one batch and less, of more than one (read apart), and of a rest."""
    columns = 150
    assert batch_rows(columns + 1) == 32_768
    write_wide(tmp_path / "a.parquet", columns, 12_000, 3000)
    write_wide(tmp_path / "b.parquet", columns, 40_000, 40_000)
    data = Data.model_validate(DATA | {"source": "*.parquet"})
    source = Source(data, tmp_path)
    first = summarise(source, Question(data), memory_bytes=1)
    second = summarise(source, Question(data), memory_bytes=2**40)
    assert first.to_json() == second.to_json()
    table = pa.concat_tables([pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "b.parquet")])
    assert first.rows == table.num_rows
    for name in ("c0", "c1"):
        column, values = first.columns[name], table[name].to_numpy()
        assert isinstance(column, NumberSummary)
        assert (column.moments.minimum, column.moments.maximum) == (values.min(), values.max())
        assert column.moments.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)
        shares = np.array([0.1, 0.5, 0.9])
        found = column.quantiles.quantiles(shares.tolist())
        at = np.searchsorted(np.sort(values), found, side="right") / len(values)
        assert column.quantiles.rank_error < 0.02
        assert np.abs(at - shares).max() <= column.quantiles.rank_error + 1 / 100
    exact, counts = np.unique(table["c0"].to_numpy(), return_counts=True)
    assert len(exact) <= 4096
    assert first.columns["c0"].frequent.counts == dict(zip((exact + 0.0).tolist(), counts.tolist(), strict=True))


def test_what_is_under_way_follows_from_memory_and_columns(tmp_path: Path) -> None:
    write_wide(tmp_path / "rows.parquet", 300, 8000, 4000)
    source, _ = source_of(tmp_path)
    most = 2 * num_threads() + 1
    found = [under_way(source, memory, 301).tasks for memory in (1, 512 * MIB, 1024 * MIB, 2**40)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, most)
    assert under_way(source, 1024 * MIB, 20).tasks == most, "narrow tables as before"
    assert under_way(source, 1024 * MIB, 20_000).tasks == 1
    assert [batch_rows(columns) for columns in (1, 64, 65, 300, 1000, 10**6)] == [BATCH_ROWS] * 2 + [
        65_536,
        16_384,
        8192,
        8192,
    ]


def test_what_is_thinned_already_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread leaves out what the bound has passed by; what is kept is what one thread keeps of whole batches."""
    monkeypatch.setattr(leak_sample, "KEPT_ROWS", 1000)
    monkeypatch.setattr(readers, "BATCH_ROWS", 2000)
    write_wide(tmp_path / "rows.parquet", 20, 40_000, 2000)
    source, _ = source_of(tmp_path)
    schema = {name: {"type": "string" if name == "late" else "float"} for name in source.schemas[0].names}
    checker = Checker(Schema.model_validate({"columns": schema}), [file.uri for file in source.files])
    handed: list[int] = []
    add = leak_sample._Kept.add

    def counting(self: leak_sample._Kept, part: leak_sample._Part) -> None:
        handed.append(len(part.hashes))
        add(self, part)

    monkeypatch.setattr(leak_sample._Kept, "add", counting)
    one = draw_sample(source, checker, 2**30, 1, under_way=1)
    assert handed[0] == 2000, "all of the first"
    assert max(handed[10:]) < 400
    many = draw_sample(source, checker, 2**30, 4)
    tables = [pa.Table.from_batches([part.batch for part in sample.batches]) for sample in (one, many)]
    assert tables[0].equals(tables[1])
    assert 400 <= one.rows <= 1000
    for part in one.batches:
        assert part.raw.batch.column("c1").buffers()[1].address == part.batch.column("c1").buffers()[1].address, "once"


def test_numbers_that_wait_as_arrays_are_counted_like_those_in_a_table() -> None:
    rng = np.random.default_rng(5)
    packed, plain = FrequentItems(), FrequentItems()
    for size in (3000, 10, 3000, 900, 4000, 2000):
        values, counts = np.unique(rng.integers(0, 5000, size).astype(float), return_counts=True)
        parts = FrequentItems(), FrequentItems()
        parts[0].add_numbers(values, counts)
        parts[1].add(values.tolist(), counts)
        assert (parts[0]._packed is not None) == (len(values) > 512)
        assert parts[0].top(5) == parts[1].top(5)
        packed.merge(parts[0])
        packed.pack()
        plain.merge(parts[1])
        assert packed.num_listed == plain.num_listed
        assert packed.to_value() == plain.to_value()
    assert FrequentItems.from_value(packed.to_value()).counts == plain.counts == packed.counts
    zeros = FrequentItems()
    zeros.add_numbers(np.zeros(600), np.ones(600, np.int64))
    assert zeros.counts == {0.0: 600}, "values that are not different are not packed"
