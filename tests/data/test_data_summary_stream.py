"""Summaries of sources: the same bytes however they are read, statistics kept by content, formats that agree."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from fairlead.data.inference import infer_schema
from fairlead.data.schema import Schema
from fairlead.data.sources import Source
from fairlead.data.summary import stream
from fairlead.data.summary.cache import FOLDER, SummaryCache
from fairlead.data.summary.numbers import NumberSummary
from fairlead.data.summary.stream import Question, summarise, threads_within
from fairlead.data.summary.table import TableSummary
from fairlead.errors import SourceUnreadable
from fairlead.spec.data import Data

FACTS = {
    "label": {"column": "late", "positive": "yes"},
    "time": "at",
    "split": {"by": "time", "validation": "2024-03-01", "test": "2024-03-15"},
}


def table(count: int, seed: int) -> pa.Table:
    """Rows of three months."""
    rng = np.random.default_rng(seed)
    stamps = np.datetime64("2024-01-01", "us") + rng.integers(0, 90 * 86_400, count).astype("timedelta64[s]")
    return pa.table(
        {
            "x": pa.array(rng.normal(size=count).round(6), mask=rng.random(count) < 0.1),
            "n": pa.array(rng.integers(0, 90, count)),
            "town": pa.array([f"town {i}" for i in rng.integers(0, 30, count)]),
            "at": pa.array(stamps),
            "late": pa.array(np.where(rng.random(count) < 0.3, "yes", "no")),
        }
    )


def source_of(base: Path, pattern: str = "*.parquet", **more: Any) -> tuple[Source, Data]:
    """The files of a folder as a project would name them."""
    data = Data.model_validate({"source": pattern, **FACTS, **more})
    return Source(data, base), data


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Twenty files, more than one chunk; one of them empty, one with several row groups."""
    for day in range(20):
        count = 0 if day == 7 else 300 + 10 * day
        pq.write_table(table(count, day), tmp_path / f"day-{day:02d}.parquet", row_group_size=100 if day == 3 else None)
    return tmp_path


def test_threads_and_memory_change_nothing(days: Path) -> None:
    source, data = source_of(days)
    first = summarise(source, Question(data), memory_bytes=1)
    second = summarise(source, Question(data), memory_bytes=2**40)
    assert threads_within(source, 1) == 1
    assert first.to_json() == second.to_json()
    assert first.rows == sum(footer.num_rows for footer in source.metadata)
    assert list(first.groups["split"].groups) == ["train", "validation", "test"]


def test_a_new_day_costs_the_new_day(days: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = stream.FileReader.summarise

    def counting(self: Any, raw: Any) -> Any:
        read.append(raw.file)
        return original(self, raw)

    monkeypatch.setattr(stream.FileReader, "summarise", counting)
    source, data = source_of(days)
    first = summarise(source, Question(data), days)
    assert set(read) == set(range(20)) - {7}
    read.clear()
    assert summarise(source_of(days)[0], Question(data), days).to_json() == first.to_json()
    assert read == []
    pq.write_table(table(500, 99), days / "day-99.parquet")
    third = summarise(source_of(days)[0], Question(data), days)
    assert read == [20]
    assert third.rows == first.rows + 500
    assert third.to_json() == summarise(source_of(days)[0], Question(data)).to_json()


def test_another_question_is_answered_anew_and_damage_is_repaired(days: Path) -> None:
    source, data = source_of(days)
    first = summarise(source, Question(data), days)
    plain = summarise(source, Question(data, groups=False), days)
    assert not plain.groups
    for kept in sorted((days / FOLDER).iterdir())[:9]:
        kept.write_bytes(kept.read_bytes()[:100])
    assert summarise(source, Question(data), days).to_json() == first.to_json()


def test_a_kept_summary_that_is_not_what_was_written_is_not_believed(days: Path) -> None:
    """Valid JSON with another number in it, nothing at all, an older form without a digest."""
    source, data = source_of(days)
    first = summarise(source, Question(data), days)
    kept = sorted((days / FOLDER).iterdir())
    changed = kept[0].read_bytes().replace(b'"rows":', b'"rows":1', 1)
    assert changed != kept[0].read_bytes()
    kept[0].write_bytes(changed)
    kept[1].write_bytes(kept[1].read_bytes().partition(b"\n")[2])
    kept[2].write_bytes(b"")
    assert summarise(source, Question(data), days).to_json() == first.to_json()
    cache = SummaryCache(days, Question(data).key)
    assert summarise(source, Question(data), days).to_json() == first.to_json()
    assert all(path.read_bytes().count(b"\n") == 1 for path in kept), "and written again"
    assert cache.get("no such digest") is None


def test_the_cache_stays_within_its_size(days: Path) -> None:
    source, data = source_of(days)
    summarise(source, Question(data), days)
    cache = SummaryCache(days, Question(data).key)
    sizes = [entry.stat().st_size for entry in os.scandir(days / FOLDER)]
    assert len(sizes) == 20
    cache.prune(sum(sizes) // 2)
    left = [entry.stat().st_size for entry in os.scandir(days / FOLDER)]
    assert 0 < sum(left) <= sum(sizes) // 2


def test_formats_agree(tmp_path: Path) -> None:
    rows = table(2000, 4)
    texts = rows.set_column(3, "at", rows["at"].cast(pa.string()))
    pq.write_table(rows, tmp_path / "rows.parquet")
    pq.write_table(rows.cast(pa.schema([*rows.schema])), tmp_path / "plain.parquet", use_dictionary=False)
    pa_csv.write_csv(texts, tmp_path / "rows.csv")
    lines = "\n".join(json.dumps(row) for row in texts.to_pylist())
    (tmp_path / "rows.jsonl").write_text(lines + "\n")
    source, data = source_of(tmp_path, "rows.parquet")
    schema = infer_schema(source, never_bounded=["late"], instants=["at"]).schema
    found: dict[str, TableSummary] = {}
    for name in ("rows.parquet", "plain.parquet", "rows.csv", "rows.jsonl"):
        asked, data = source_of(tmp_path, name)
        found[name] = summarise(asked, Question(data, schema))
    expected = found.pop("rows.parquet")
    for name, summary in found.items():
        assert summary.rows == expected.rows, name
        assert summary.patterns.counts == expected.patterns.counts
        for column in rows.schema.names:
            mine, other = summary.columns[column], expected.columns[column]
            assert (mine.kind, mine.missing) == (other.kind, other.missing), (name, column)
            assert mine.distinct.to_value() == other.distinct.to_value()
            assert mine.frequent.counts == other.frequent.counts
            if isinstance(mine, NumberSummary) and isinstance(other, NumberSummary):
                assert mine.moments.to_value() == other.moments.to_value()
        for dimension, groups in summary.groups.items():
            rows_of = {key: columns["x"].rows for key, columns in groups.groups.items()}
            assert rows_of == {k: c["x"].rows for k, c in expected.groups[dimension].groups.items()}


def test_text_that_is_no_number_counts_as_unreadable(tmp_path: Path) -> None:
    schema = Schema.model_validate({"columns": {"x": {"type": "float"}, "late": {"type": "string"}}})
    lines = ["x,late", *(["1.5,yes"] * 150), "abc,no", ",no", "2,no,no"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    source, data = source_of(tmp_path, "rows.csv")
    summary = summarise(source, Question(data, schema))
    assert dict(summary.unreadable) == {"x": 1, "": 1}
    assert (summary.columns["x"].rows, summary.columns["x"].missing) == (152, 2)


def test_a_file_that_changes_while_it_is_read_is_refused(days: Path) -> None:
    source, data = source_of(days)

    def append(rows: int) -> None:
        pq.write_table(table(777, 1), days / "day-05.parquet")

    with pytest.raises(SourceUnreadable):
        summarise(source, Question(data), told=append)


def test_large_files_are_drawn_from_and_small_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.data.summary.draw.WHOLE_FILE_ROWS", 1000)
    pq.write_table(table(1000, 1), tmp_path / "a.parquet")
    pq.write_table(table(16_384, 2), tmp_path / "b.parquet")
    source, data = source_of(tmp_path, "b.parquet")
    drawn = summarise(source, Question(data)).columns["x"]
    whole = summarise(*(lambda s, d: (s, Question(d)))(*source_of(tmp_path, "a.parquet"))).columns["x"]
    assert isinstance(drawn, NumberSummary)
    assert isinstance(whole, NumberSummary)
    assert whole.quantiles.rank_error == 0
    assert drawn.quantiles.variance >= 8 * 0.85 * 16_384
    assert drawn.moments.count == drawn.count
