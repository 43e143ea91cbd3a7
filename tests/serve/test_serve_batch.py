"""Scoring a file: whole or not at all, whatever goes wrong."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Bundles
from tiny_models import table

from fairlead.bundle.bundle import Bundle, fetch_bundle
from fairlead.errors import NotEnoughDisk, SchemaMismatch, SourceNotFound, SourceUnreadable
from fairlead.serve.batch import score_files
from fairlead.testing.full_disk import files_no_larger_than, unfinished


@pytest.fixture
def bundle(bundles: Bundles) -> Bundle:
    return fetch_bundle(bundles.store, bundles.first.bundle_uri, bundles.first.digest, bundles.cache)


def test_every_row_gets_a_score_beside_its_own_columns(bundle: Bundle, tmp_path: Path) -> None:
    pq.write_table(table(500), tmp_path / "rows.parquet", row_group_size=100)
    result = score_files(bundle, "rows.parquet", Path("scores.parquet"), base=tmp_path)
    scored = pq.read_table(tmp_path / "scores.parquet")
    assert (result.rows, scored.num_rows, result.digest) == (500, 500, bundle.digest)
    assert set(table(1).column_names) < set(scored.column_names)


@pytest.mark.parametrize("room", [0, 100, 4_000, 8_000, 12_000])
def test_a_full_disk_is_told_and_the_old_scores_stay(bundle: Bundle, room: int, tmp_path: Path) -> None:
    pq.write_table(table(5000), tmp_path / "rows.parquet", row_group_size=1000)
    (tmp_path / "scores.parquet").write_bytes(b"old")
    with files_no_larger_than(room), pytest.raises(NotEnoughDisk) as refused:
        score_files(bundle, "rows.parquet", Path("scores.parquet"), base=tmp_path)
    assert refused.value.where == str(tmp_path / "scores.parquet")
    assert refused.value.fix
    assert (tmp_path / "scores.parquet").read_bytes() == b"old"
    assert unfinished(tmp_path) == []


def test_rows_that_cannot_be_scored_leave_no_file(bundle: Bundle, tmp_path: Path) -> None:
    rows = table(200)
    pq.write_table(rows, tmp_path / "short.parquet", row_group_size=50)
    short = (tmp_path / "short.parquet").read_bytes()
    (tmp_path / "short.parquet").write_bytes(short[:-300])
    pq.write_table(rows.drop_columns(["wind"]), tmp_path / "lacks.parquet")
    pq.write_table(rows.slice(0, 0), tmp_path / "empty.parquet")
    for name, error in (
        ("absent.parquet", SourceNotFound),
        ("short.parquet", SourceUnreadable),
        ("lacks.parquet", SchemaMismatch),
    ):
        with pytest.raises(error) as refused:
            score_files(bundle, name, Path("scores.parquet"), base=tmp_path)
        assert name in f"{refused.value.what} {refused.value.where}"
    assert not (tmp_path / "scores.parquet").exists()
    assert unfinished(tmp_path) == []
