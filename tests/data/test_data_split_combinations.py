"""Splits that combine time, groups, classes, gaps and families, and the report of how alike the sides are."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fairlead.data.near_duplicates import families
from fairlead.data.prepare import PrepareResult, prepare_data
from fairlead.data.report import prepare_report
from fairlead.data.splits import LEFT_OUT, Keys, assign, merged
from fairlead.errors import SplitTooSmall
from fairlead.features.hashing import mix
from fairlead.reports.markdown import render_markdown
from fairlead.spec.data import Data, Split
from fairlead.spec.project import Project


def keys(count: int, seed: int = 7) -> Keys:
    rng = np.random.default_rng(seed)
    times = np.datetime64("2024-01-01", "us") + rng.integers(0, 100 * 86_400, count).astype("timedelta64[s]")
    groups = mix(rng.integers(0, max(count // 4, 1), count).astype(np.uint64))
    return Keys(count, rng.integers(0, 2, count), times, groups, mix(np.arange(count, dtype=np.uint64)))


def split(**fields: object) -> Split:
    return Split.model_validate({"validation": 0.2, "test": 0.2, **fields})


def sides_of(values: np.ndarray, sides: np.ndarray) -> dict[int, set[int]]:
    return {int(value): set(sides[(values == value) & (sides >= 0)].tolist()) for value in np.unique(values)}


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 400), st.integers(0, 1000))
def test_by_time_and_group_no_entity_is_on_two_sides_and_no_row_precedes_training(count: int, seed: int) -> None:
    given_keys = keys(count, seed)
    assert given_keys.groups is not None
    assert given_keys.times is not None
    by_time, _ = assign(split(by="time"), given_keys)
    both, _ = assign(split(by="time+group"), given_keys)
    kept = both >= 0
    assert np.array_equal(both[kept], by_time[kept])
    assert np.array_equal(both == 0, by_time == 0)
    assert all(len(found) <= 1 for found in sides_of(given_keys.groups, both).values())
    # Nothing more than needed is left out: those rows' entities are on an earlier side.
    for row in np.flatnonzero((by_time >= 0) & (both < 0)):
        same = (given_keys.groups == given_keys.groups[row]) & (both >= 0)
        assert (both[same] < by_time[row]).any()


def test_an_embargo_leaves_out_what_lies_just_before_each_later_side() -> None:
    given_keys = keys(4000)
    times = given_keys.times
    assert times is not None
    plain, facts = assign(split(by="time"), given_keys)
    gapped, gap_facts = assign(split(by="time", embargo="3d"), given_keys)
    assert gap_facts["embargo"] == "259200 s"
    begin = [np.datetime64(facts[name][:19], "us") for name in ("validation", "test")]
    dropped = np.zeros(4000, bool)
    for start in begin:
        dropped |= (times < start) & (times >= start - np.timedelta64(timedelta(days=3)))
    assert np.array_equal(gapped == LEFT_OUT, dropped)
    assert np.array_equal(gapped[~dropped], plain[~dropped])


def test_stratified_groups_stay_whole_and_the_classes_alike() -> None:
    rng = np.random.default_rng(7)
    groups = mix(rng.integers(0, 600, 6000).astype(np.uint64))
    # A tenth of the groups has most of the positives.
    positive = rng.random(6000) < np.where(groups % np.uint64(10) == 0, 0.8, 0.02)
    given_keys = Keys(6000, positive.astype(np.int64), groups=groups)
    sides, _ = assign(split(by="group+stratified"), given_keys)
    assert all(len(found) == 1 for found in sides_of(groups, sides).values())
    shares = [float(positive[sides == side].mean()) for side in range(3)]
    assert max(shares) - min(shares) < 0.025
    assert [round(float((sides == side).mean()), 2) for side in range(3)] == [0.6, 0.2, 0.2]
    amounts = Keys(6000, positive + rng.normal(0, 0.1, 6000), groups=groups)
    sides, _ = assign(split(by="group+stratified"), amounts)
    assert all(len(found) == 1 for found in sides_of(groups, sides).values())


@pytest.mark.parametrize("by", ["random", "stratified", "group", "group+stratified", "time"])
def test_a_family_is_on_one_side_whatever_decides(by: str) -> None:
    given_keys = keys(900)
    family = np.repeat(np.arange(300), 3)
    together = Keys(900, given_keys.labels, given_keys.times, given_keys.groups, given_keys.rows, family)
    sides, _ = assign(split(by=by), together)
    assert all(len(found) == 1 for found in sides_of(family, sides).values())
    if by != "time":
        assert (sides >= 0).all()
        assert 0.1 < float((sides == 2).mean()) < 0.3 or by.startswith("group")


def test_rows_linked_over_several_steps_get_one_hash() -> None:
    hashes = np.array([9, 9, 5, 7, 3], np.uint64)
    belongs = np.array([0, 1, 1, 2, 3])
    assert merged(hashes, belongs).tolist() == [5, 5, 5, 7, 3]


def test_near_duplicates_of_everything_are_refused_with_a_way_out() -> None:
    rng = np.random.default_rng(7)
    columns = mix(rng.integers(0, 2**62, (2, 6, 500)).astype(np.uint64))
    assert len(np.unique(families(columns))) == 500
    chained = columns.copy()
    chained[:, 1:, :200] = columns[:, 1:, :1]
    with pytest.raises(SplitTooSmall, match="near duplicates"):
        families(chained)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"split": {"by": "random", "embargo": "1d"}}, "embargo needs a split by time"),
        ({"split": {"by": "time+group"}, "entity": "e"}, "needs data.time"),
        ({"split": {"by": "time+group"}, "time": "t"}, "needs data.entity"),
        ({"leaks": {"known_at": {"a": "b"}}}, "needs data.time"),
        ({"sample": {"rows": 100, "by": "weighted"}}, "chance names the column"),
    ],
)
def test_what_does_not_fit_together_is_refused(data: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Data.model_validate({"source": "raw", "label": {"column": "y"}, **data})


def test_defaults_of_new_fields_stay_out_of_the_projects_digest() -> None:
    dumped = Data.model_validate({"source": "raw", "label": {"column": "y"}}).model_dump()
    assert not {"near_duplicates", "weight", "sample", "balance"} & set(dumped)
    assert "embargo" not in dumped["split"]
    assert "known_at" not in dumped["leaks"]


def shifted(folder: Path, shift: float) -> PrepareResult:
    rng = np.random.default_rng(7)
    rows = 4000
    times = np.datetime64("2024-01-01", "us") + np.arange(rows).astype("timedelta64[h]")
    late = np.arange(rows) > 0.8 * rows
    table = pa.table(
        {
            "at": times,
            "size": rng.normal(size=rows) + shift * late,
            "shop": np.where(late & (rng.random(rows) < shift), "new", rng.choice(["a", "b"], rows)),
            "y": rng.random(rows) < 0.3,
        }
    )
    (folder / "raw").mkdir()
    pq.write_table(table, folder / "raw" / "rows.parquet")
    project = Project.model_validate(
        {
            "project": "p",
            "data": {"source": "raw", "label": {"column": "y"}, "time": "at", "split": {"by": "time"}},
            "features": {"numeric": ["size"], "categorical": ["shop"]},
        }
    )
    result = prepare_data(project, folder, folder / "out")
    text = render_markdown(prepare_report(project, result))
    assert "How alike the splits are" in text
    return result


def test_the_report_says_which_columns_of_which_side_are_not_like_training(tmp_path: Path) -> None:
    different = shifted(tmp_path, 0.6)
    found = {(d.split, d.column) for d in different.differences if d.differs}
    assert {("test", "size"), ("test", "shop")} <= found
    assert not {column for side, column in found if side == "validation"} - {"at"}
    shop = next(d for d in different.differences if (d.split, d.column) == ("test", "shop"))
    assert "have a value that does not train" in shop.why


def test_splits_that_are_alike_are_said_to_be(tmp_path: Path) -> None:
    assert {d.column for d in shifted(tmp_path, 0.0).differences if d.differs} == {"at"}
