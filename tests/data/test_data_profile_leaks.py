"""Leaks in a profile: what the split would refuse, ranked, each column once, and on how many rows that rests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from fairlead.data import csv_reader, leak_sample, readers
from fairlead.data.checks import Checker
from fairlead.data.leak_sample import draw_sample
from fairlead.data.profile import ProfileOptions, profile_data
from fairlead.data.profile_leak_report import leak_blocks
from fairlead.data.profile_record import LeakScan, Profile
from fairlead.data.profile_report import profile_report
from fairlead.data.schema import Schema
from fairlead.data.sources import Source
from fairlead.reports.html import MAX_BYTES, render_html
from fairlead.reports.markdown import render_markdown
from fairlead.reports.model import Table
from fairlead.spec.data import Data
from fairlead.spec.project import Project

HONEST = ["distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib", "seats"]
KNOWN_AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "air_time"]
DATA: dict[str, Any] = {
    "source": "rows.parquet",
    "label": {"column": "late", "positive": True},
    "time": "at",
    "split": {"by": "time", "validation": "2024-04-01", "test": "2024-05-01"},
}


def rows_of(count: int, seed: int, *, begin: str = "2024-01-01", leak: float = 3.0) -> pa.Table:
    """Half a year: an honest x, a `refund` that one outcome writes, a `score` that knows the label by `leak`."""
    rng = np.random.default_rng(seed)
    stamps = np.sort(np.datetime64(begin, "us") + rng.integers(0, 181 * 86_400, count).astype("timedelta64[s]"))
    late = rng.random(count) < 0.3
    return pa.table(
        {
            "at": stamps,
            "x": rng.normal(size=count) + 0.5 * late,
            "score": leak * late + rng.normal(size=count),
            "refund": pa.array(rng.gamma(2, 3, count), mask=~late | (rng.random(count) < 0.5)),
            "town": [f"town {i}" for i in rng.integers(0, 20, count)],
            "late": late,
        }
    )


def project_of(features: Mapping[str, Any] | None = None, **data: Any) -> Project:
    """A project of these rows."""
    features = features or {"numeric": ["x", "score", "refund"], "categorical": ["town"]}
    return Project.model_validate({"project": "orders", "data": DATA | data, "features": dict(features)})


def profile_of(base: Path, project: Project | None = None, **options: Any) -> Profile:
    """The profile of rows.parquet."""
    return profile_data(project or project_of(), base, ProfileOptions(cache=False, **options))


def leaks_of(profile: Profile) -> LeakScan:
    """Its leaks, which are there."""
    assert profile.leaks is not None
    return profile.leaks


def severities(scan: LeakScan) -> dict[str, str]:
    """By column, in their order."""
    return {entry.column: entry.severity for entry in scan.columns}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    pq.write_table(rows_of(4000, 1), tmp_path / "rows.parquet")
    return tmp_path


def test_what_is_known_only_after_a_flight_is_refused_and_nothing_else(flights_folder: Path) -> None:
    """The four columns as features, so that `data split` would refuse them; the delays have no label of their own."""
    data = {"source": "data/*.parquet", "time": "scheduled_at"} | {
        "split": {"by": "time", "validation": "2013-03-01", "test": "2013-04-01"}
    }
    features = {"numeric": [*HONEST, *KNOWN_AFTERWARDS], "categorical": ["carrier", "origin", "dest"]}
    profile = profile_of(flights_folder, project_of(features, **data))
    scan = leaks_of(profile)
    failed = [finding.column for finding in profile.warnings if finding.severity == "fail"]
    assert set(failed) == set(KNOWN_AFTERWARDS)
    assert {name for name, severity in severities(scan).items() if severity == "fail"} == set(KNOWN_AFTERWARDS)
    assert [entry.severity for entry in scan.columns] == sorted(
        (entry.severity for entry in scan.columns), key=["fail", "warn", "info"].index
    )
    mentioned = [finding.column for finding in profile.warnings if "knows the label" in finding.what]
    assert len(mentioned) == len(set(mentioned)), "each column once"
    assert (scan.whole, scan.rows) == (True, profile.rows)
    page = render_html(profile_report(profile))
    assert len(page.encode()) <= MAX_BYTES
    assert page.index("dep_delay knows the label") < page.index(">Leaks<") < page.index(">Columns<")
    assert "AUC 0." in page, "the evidence"


def test_flights_that_are_all_later_than_the_training_period_are_scanned_as_they_are(flights_folder: Path) -> None:
    data = {"source": "data/flights-2013-04.parquet", "time": "scheduled_at"} | {
        "split": {"by": "time", "validation": "2013-03-01", "test": "2013-04-01"}
    }
    scan = leaks_of(profile_of(flights_folder, project_of({"numeric": [*HONEST, *KNOWN_AFTERWARDS]}, **data)))
    assert {entry.column for entry in scan.columns if entry.severity == "fail"} == set(KNOWN_AFTERWARDS)
    assert {entry.column for entry in scan.columns if entry.severity == "warn"} == {"arr_delay"}, "no feature"


def test_a_column_that_is_no_feature_is_told_and_one_that_is_allowed_says_why(base: Path) -> None:
    features = {"numeric": ["x", "refund"], "categorical": ["town"]}
    allowed = project_of(features, leaks={"allow": {"refund": "paid before the order ships"}})
    profile = profile_of(base, allowed)
    scan = leaks_of(profile)
    assert severities(scan) == {"score": "warn", "refund": "info"}
    told, let_through = scan.columns
    assert (told.feature, let_through.allowed, let_through.reason) == (False, True, "paid before the order ships")
    assert let_through.evidence[0].severe
    assert [w.what for w in profile.warnings] == ["score knows the label (not a feature)", "refund: 84% missing"]
    words = render_markdown(profile_report(profile))
    assert "score knows the label (not a feature)" in words
    assert "Allowed: paid before the order ships" in words


def test_evidence_is_that_of_the_split_and_each_column_stands_once(base: Path) -> None:
    profile = profile_of(base)
    scan = leaks_of(profile)
    assert severities(scan) == {"score": "fail", "refund": "fail"}
    kinds = {entry.column: [item.kind for item in entry.evidence] for entry in scan.columns}
    assert kinds["score"] == ["strength"]
    assert "written by the outcome" in kinds["refund"]
    assert [finding.column for finding in profile.warnings if finding.severity == "fail"] == ["score", "refund"]
    assert scan.training_rows == sum(at.as_py().month < 4 for at in pq.read_table(base / "rows.parquet")["at"])


def test_two_sets_are_scanned_and_shown_beside_each_other(base: Path) -> None:
    """The other set is later than the training period, and its `score` is honest: all its rows are looked at."""
    pq.write_table(rows_of(3000, 2, begin="2024-07-01", leak=0.5), base / "other.parquet")
    profile = profile_of(base, against="other.parquet")
    assert profile.against is not None
    assert severities(leaks_of(profile.against)) == {"refund": "fail"}
    assert leaks_of(profile.against).training_rows == 3000
    table = next(block for block in leak_blocks(profile) if isinstance(block, Table))
    assert list(table.columns[:3]) == ["Column", "Here", "There"]
    badges = {row[0]: [getattr(cell, "text", cell) for cell in row[1:3]] for row in table.rows}
    assert badges == {"score": ["leak", ""], "refund": ["leak", "leak"]}
    assert [w.column for w in profile.warnings if "knows the label" in w.what] == ["score", "refund"]


def test_a_leak_in_the_other_set_only_is_a_warning_here(base: Path) -> None:
    pq.write_table(rows_of(4000, 1, leak=0.5).drop_columns(["refund"]), base / "rows.parquet")
    pq.write_table(rows_of(3000, 2), base / "other.parquet")
    profile = profile_of(base, project_of({"numeric": ["x", "score"]}), against="other.parquet")
    assert [(w.severity, w.what) for w in profile.warnings if "knows" in w.what] == [
        ("warn", "score knows the label in other.parquet")
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.drop_columns(["score"]), "there is no column score"),
        (lambda t: t.set_column(5, "late", pa.array([True] * t.num_rows)), "one value only"),
        (lambda t: t.set_column(5, "late", pa.nulls(t.num_rows, pa.bool_())), "no value in any good row"),
        (lambda t: t.set_column(1, "x", t["town"]), "which cannot be numeric"),
    ],
)
def test_where_there_can_be_no_scan_the_page_says_why(change: Any, why: str, base: Path) -> None:
    pq.write_table(change(rows_of(500, 3)), base / "rows.parquet")
    profile = profile_of(base)
    assert why in leaks_of(profile).not_done
    assert "The features were not scanned" in render_markdown(profile_report(profile))


def test_a_large_source_is_looked_at_in_part_and_the_page_says_in_how_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_sample, "READ_ROWS", 4000)
    monkeypatch.setattr(leak_sample, "KEPT_ROWS", 3000)
    (tmp_path / "rows").mkdir()
    for number in range(20):
        pq.write_table(rows_of(1000, number), tmp_path / "rows" / f"{number:02d}.parquet")
    profile = profile_of(tmp_path, project_of(source="rows"))
    scan = leaks_of(profile)
    assert severities(scan) == {"score": "fail", "refund": "fail"}
    assert not scan.whole
    assert 1500 <= scan.rows <= 3000
    assert f"{scan.rows:,} of 20,000 rows" in render_markdown(profile_report(profile))


def test_what_repeats_in_all_rows_is_no_identifier_though_it_seldom_does_in_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_sample, "KEPT_ROWS", 1000)
    table, rng = rows_of(40_000, 1), np.random.default_rng(2)
    table = table.append_column("user", pa.array([f"user {i}" for i in rng.integers(0, 15_000, 40_000)]))
    table = table.append_column("order", pa.array([f"order {i}" for i in range(40_000)]))
    pq.write_table(table, tmp_path / "rows.parquet")
    scan = leaks_of(profile_of(tmp_path, project_of({"numeric": ["x"], "categorical": ["user", "order"]})))
    assert {e.column for e in scan.columns if e.evidence[0].kind == "identifier"} == {"order"}


def source_of(base: Path, pattern: str) -> tuple[Source, Checker]:
    """The files, and what their columns are."""
    source = Source(Data.model_validate(DATA | {"source": pattern}), base)
    kinds = {"at": "timestamp", "x": "float", "late": "bool"}
    schema = Schema.model_validate({"columns": {name: {"type": kind} for name, kind in kinds.items()}})
    return source, Checker(schema, [file.uri for file in source.files])


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_sample_is_the_same_for_any_number_of_threads_and_bounded(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "_BLOCK_BYTES", 20_000)
    monkeypatch.setattr(readers, "BATCH_ROWS", 500)
    for number in range(6):
        table = rows_of(3000, number).select(["at", "x", "late"])
        if form == "parquet":
            pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=500)
        else:
            pa_csv.write_csv(table, tmp_path / f"{number}.csv")
    source, checker = source_of(tmp_path, f"*.{form}")
    one, many = (draw_sample(source, checker, 50_000, threads) for threads in (1, 4))
    rows = [pa.Table.from_batches([part.batch for part in sample.batches]) for sample in (one, many)]
    assert rows[0].equals(rows[1])
    assert not one.whole
    assert 0 < rows[0].nbytes <= 50_000
    files = {part.raw.file for part in one.batches}
    assert files == set(range(6)), "from all over the source"
    every = draw_sample(source, checker, 2**30, 2)
    assert (every.whole, every.rows) == (True, 18_000)
    some = draw_sample(source, checker, 2**30, 2, read_rows=9000)
    assert not some.whole
    assert 8000 <= some.rows <= 12_000


def test_a_scan_of_text_is_that_of_parquet(base: Path) -> None:
    table = pq.read_table(base / "rows.parquet")
    pa_csv.write_csv(table.set_column(0, "at", table["at"].cast(pa.string())), base / "rows.csv")
    found = [leaks_of(profile_of(base, project_of(source=f"rows.{form}"))) for form in ("parquet", "csv")]
    assert [severities(scan) for scan in found] == [{"score": "fail", "refund": "fail"}] * 2


def test_clean_rows_have_no_leak_in_any_of_twenty_sets(tmp_path: Path) -> None:
    """The scan's own rate is one in a thousand sets (tests/data/test_data_leaks.py); the list adds no accusation."""
    for seed in range(20):
        pq.write_table(rows_of(1500, seed, leak=0.5).drop_columns(["refund"]), tmp_path / "rows.parquet")
        profile = profile_of(tmp_path, project_of({"numeric": ["x", "score"], "categorical": ["town"]}))
        assert {e.column for e in leaks_of(profile).columns if e.severity != "info"} == set(), seed


def test_without_a_scan_the_ties_of_all_rows_are_left(base: Path) -> None:
    profile = profile_of(base, leaks=False)
    scan = leaks_of(profile)
    assert severities(scan) == {"score": "fail"}
    assert scan.not_done == "it was not asked for"
    assert json.loads(profile.model_dump_json())["leaks"]["columns"][0]["evidence"][0]["kind"] == "strength"
