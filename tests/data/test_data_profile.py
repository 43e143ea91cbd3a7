"""The profile: true facts, warnings about what is wrong and none about what is not, two sets beside each other."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.data.profile import Meter, ProfileOptions, profile_data
from fairlead.data.profile_record import Profile
from fairlead.data.profile_report import profile_report
from fairlead.errors import EmptyData
from fairlead.reports.html import MAX_BYTES, render_html
from fairlead.reports.markdown import render_markdown
from fairlead.spec.project import Project

SPEC: dict[str, Any] = {
    "project": "orders",
    "data": {
        "source": "rows.parquet",
        "label": {"column": "late", "positive": True},
        "time": "at",
        "split": {"by": "time", "validation": "2024-04-01", "test": "2024-05-01"},
    },
    "features": {"numeric": ["x", "leak"], "categorical": {"town": {}, "id": {}}},
}


def orders(count: int, seed: int, *, shift: float = 0.0, clean: bool = False) -> pa.Table:
    """Half a year. Unless `clean`: a leak, a constant, an identifier, infinite numbers, a gap in May, new towns."""
    rng = np.random.default_rng(seed)
    stamps = np.sort(np.datetime64("2024-01-01", "us") + rng.integers(0, 181 * 86_400, count).astype("timedelta64[s]"))
    months = stamps.astype("datetime64[M]").astype(str)
    late = rng.random(count) < 0.3
    x = rng.normal(size=count) + shift + 0.5 * late
    town = np.array([f"town {i}" for i in rng.integers(0, 20, count)])
    columns = {
        "at": pa.array(stamps),
        "x": pa.array(x),
        "town": pa.array(town),
        "y": pa.array(rng.gamma(2, 3, count), mask=rng.random(count) < 0.05),
        "late": pa.array(late, mask=rng.random(count) < 0.02),
    }
    if not clean:
        x[:3] = np.inf
        town[months == "2024-06"] = "elsewhere"
        gap = (months == "2024-05") & (rng.random(count) < 0.9)
        columns |= {
            "x": pa.array(x),
            "town": pa.array(town),
            "leak": pa.array(late * 3 + rng.normal(size=count) * 0.5),
            "id": pa.array([f"order {i}" for i in range(count)]),
            "same": pa.array(["A"] * count),
            "nothing": pa.nulls(count, pa.float64()),
            "z": pa.array(rng.normal(size=count), mask=gap),
        }
    return pa.table(columns)


def profile_of(base: Path, **options: Any) -> Profile:
    """The profile of rows.parquet."""
    return profile_data(Project.model_validate(SPEC), base, ProfileOptions(cache=False, **options))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    pq.write_table(orders(6000, 1), tmp_path / "rows.parquet")
    return tmp_path


def test_what_is_wrong_is_told_with_the_worst_first(base: Path) -> None:
    found = [(w.severity, w.column) for w in profile_of(base).warnings]
    assert found[0] == ("fail", "leak")
    assert set(found[1:]) == {("warn", column) for column in ("x", "id", "same", "nothing", "z", "town")}, (
        "one each, and nothing of y and at"
    )
    words = " ".join(w.what for w in profile_of(base).warnings)
    assert "3 infinite numbers" in words
    assert "other shares in 2024-06" in words
    assert "missing in 2024-05" in words


@pytest.mark.parametrize("seed", range(8))
def test_clean_rows_raise_no_warning(seed: int, tmp_path: Path) -> None:
    pq.write_table(orders(3000, seed, clean=True), tmp_path / "rows.parquet")
    project = Project.model_validate(SPEC | {"features": {"numeric": ["x", "y"], "categorical": {"town": {}}}})
    assert profile_data(project, tmp_path, ProfileOptions(cache=False)).warnings == ()


def test_an_allowed_feature_is_no_leak(base: Path) -> None:
    spec = SPEC | {"data": SPEC["data"] | {"leaks": {"allow": ["leak"]}}}
    profile = profile_data(Project.model_validate(spec), base, ProfileOptions(cache=False))
    assert "leak" not in {w.column for w in profile.warnings}
    assert profile.leaks is not None
    assert [(entry.column, entry.allowed) for entry in profile.leaks.columns if entry.allowed] == [("leak", True)]


def test_facts_are_true(base: Path) -> None:
    table = pq.read_table(base / "rows.parquet")
    profile = profile_of(base)
    columns = {column.name: column for column in profile.columns}
    y, late, clock = columns["y"], columns["late"], columns["at"]
    values = table["y"].drop_null().to_numpy()
    assert (y.rows, y.missing, y.minimum, y.maximum) == (6000, table["y"].null_count, values.min(), values.max())
    assert y.mean == pytest.approx(values.mean(), rel=1e-12)
    assert y.bins is not None
    assert sum(y.bins.counts) == pytest.approx(len(values), abs=1)
    exact, _ = np.histogram(np.clip(values, y.bins.edges[0], y.bins.edges[-1]), y.bins.edges)
    assert np.abs(np.cumsum(exact) - np.cumsum(y.bins.counts)).max() <= (y.rank_error + 1e-3) * len(values)
    assert {v.value: v.count for v in late.top}["true"] == sum(v is True for v in table["late"].to_pylist())
    assert clock.minimum == str(table["at"][0].as_py()).replace(" ", "T")[:19]
    assert [*y.groups["split"]] == ["train", "validation", "test"]
    assert [*y.groups["month"]] == [f"2024-0{i}" for i in range(1, 7)]
    assert sum(group.rows for group in y.groups["month"].values()) == 6000
    leak = columns["leak"].tie
    assert leak is not None
    known = table.filter(pa.compute.is_valid(table["late"]))
    true, false = (known.filter(pa.compute.equal(known["late"], side))["leak"].to_numpy() for side in (True, False))
    area = (np.searchsorted(np.sort(false), true).sum()) / (len(true) * len(false))
    assert leak.auc == pytest.approx(area, abs=leak.error + 1e-9)
    complete = table.num_rows - table.filter(pa.compute.is_null(table["y"])).num_rows
    assert profile.rows_complete == 0 < complete, "a column without any value leaves no row complete"
    assert all("nothing" in pattern.columns for pattern in profile.patterns)


def test_two_sets_side_by_side_name_what_moved(base: Path) -> None:
    (base / "other").mkdir()
    pq.write_table(orders(6000, 2, shift=1.0), base / "other" / "rows.parquet")
    profile = profile_of(base, against="other/rows.parquet")
    moved = {c.name: c.drift for c in profile.columns if c.drift is not None and c.drift.sure}
    assert set(moved) == {"x"}
    assert moved["x"].value == pytest.approx(0.37, abs=0.05), "of normal distributions one standard deviation apart"
    page = render_html(profile_report(profile))
    assert "Side by side" in page
    assert "beside other/rows.parquet" in page


def test_the_page_is_small_whole_and_escaped(base: Path) -> None:
    rng = np.random.default_rng(4)
    wide = orders(3000, 3)
    for number in range(60):
        name = f"<script>{number}" if number % 2 else f"column {number}"
        wide = wide.append_column(name, pa.array(rng.normal(size=3000)))
    pq.write_table(wide, base / "rows.parquet")
    report = profile_report(profile_of(base))
    page = render_html(report)
    assert len(page.encode()) <= MAX_BYTES
    assert "<script" not in page
    assert page.index("things need attention") < page.index("Columns")
    assert "http" not in page.replace("http-equiv", "")
    words = render_markdown(report)
    assert "knows the label" in words
    for title in ("Overview", "Columns", "Label", "Drift by month", "Missing", "Distributions"):
        assert f">{title}<" in page
        assert title in words


@pytest.mark.parametrize("number", [200, 2000, 20_000])
def test_any_number_of_columns_fits_the_page_which_says_what_is_not_drawn(number: int, base: Path) -> None:
    profile = profile_of(base)
    first = next(column for column in profile.columns if column.name == "y")
    more = tuple(first.model_copy(update={"name": f"column <{place}>"}) for place in range(number))
    wide = profile.model_copy(update={"columns": (*more, *profile.columns)})
    report = profile_report(wide)
    page = render_html(report)
    assert len(page.encode()) <= MAX_BYTES <= 300_000
    assert "left out: the page is limited" not in page, "it has its end"
    said = re.search(r"([0-9]+) of ([0-9,]+) columns are drawn.*Not drawn: ([^.]*)\. All columns: (.*?)\.", page)
    assert said is not None
    drawn = int(said[1])
    assert said[2] == f"{len(wide.columns):,}"
    assert said[4] == "fairlead data profile -o json"
    assert page.count('<article class="card">') == drawn + 1, "and the label by itself"
    assert 10 <= drawn <= 80
    distributions = page[page.rindex("<h2>Distributions") :]
    assert "<h3>leak " in distributions, "what a warning names"
    assert "<h3>late " in distributions, "the label"
    assert "<h3>column &lt;0&gt; " in distributions
    # The last that is drawn of the first columns is before the first that is not.
    left = re.match(r"column &lt;([0-9]+)&gt; to ", said[3])
    assert left is not None
    begin = int(left[1])
    assert f"<h3>column &lt;{begin - 1}&gt; " in distributions
    assert f"<h3>column &lt;{begin}&gt; " not in distributions
    assert "fairlead data profile -o json" in render_markdown(report)


def test_json_follows_its_schema(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "fairlead.yaml").write_text(json.dumps(SPEC))
    page = base / "page.html"
    code = main(["data", "profile", "-f", str(base / "fairlead.yaml"), "-o", "json", "--html", str(page)])
    printed = capsys.readouterr()
    assert code == 0
    value = json.loads(printed.out)
    assert Profile.model_validate(value).format == value["format"] == "fairlead.profile/1"
    described = json.loads((Path(__file__).parents[2] / "docs/reference/profile.schema.json").read_text())
    assert set(value) == set(described["$defs"]["Profile"]["properties"])
    assert set(value["columns"][0]) == set(described["$defs"]["ColumnProfile"]["properties"])
    assert set(value["leaks"]) == set(described["$defs"]["LeakScan"]["properties"])
    assert page.read_text().startswith("<!doctype html>")
    assert f"report: {page}" in printed.err
    assert main(["data", "profile", "-f", str(base / "fairlead.yaml"), "--memory", "much"]) == 2
    assert "FL-101" in capsys.readouterr().err


def test_no_rows_are_an_error(base: Path) -> None:
    pq.write_table(orders(10, 1).slice(0, 0), base / "rows.parquet")
    with pytest.raises(EmptyData):
        profile_of(base)


def test_progress_says_speed_and_time_left() -> None:
    now, told = [100.0], []
    meter = Meter(1000, lambda words, share: told.append((words, share)), lambda: now[0])
    meter.add(100)
    now[0] += 2.0
    meter.add(100)
    now[0] += 0.5
    meter.add(100)
    assert told == [("read 200 rows, 100 rows/s, 8 s left", 0.2)]
    unknown = Meter(None, lambda words, share: told.append((words, share)), lambda: now[0])
    now[0] += 10.0
    unknown.add(50)
    assert told[-1] == ("read 50 rows, 5 rows/s", None)
