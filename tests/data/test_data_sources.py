"""Files in, rows out, with the place of each; damaged files are refused by name and place."""

import gzip
import os
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from fairlead.data.locations import format_of, s3_filesystem
from fairlead.data.readers import RawBatch
from fairlead.data.sources import Source, source_fingerprint
from fairlead.errors import SourceNotFound, SourceUnreadable
from fairlead.spec.data import Data


def opened(base: Path, source: str | tuple[str, ...], **options: object) -> Source:
    return Source(Data.model_validate({"source": source, "label": {"column": "y"}, **options}), base)


def batches(source: Source, columns: list[str] | None = None) -> list[RawBatch]:
    return list(source.scan(lambda raw: raw, columns))


def values(source: Source, column: str) -> list[object]:
    return [value for raw in batches(source) for value in raw.batch.column(column).to_pylist()]


def table(start: int, count: int) -> pa.Table:
    return pa.table({"id": range(start, start + count), "y": [i % 2 for i in range(count)]})


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for part in range(3):
        pq.write_table(table(part * 100, 100), folder / f"part-{part}.parquet", row_group_size=30)
    (folder / "_SUCCESS").touch()
    (folder / ".part-9.parquet.crc").write_bytes(b"x")
    (folder / "readme.txt").write_text("not data")
    return tmp_path


@pytest.mark.parametrize(
    "source", ["raw", "raw/", "raw/*.parquet", "raw/part-?.parquet", "**/*.parquet", ("raw/part-0.parquet", "raw")]
)
def test_a_folder_a_glob_and_a_list_name_the_same_files_in_order(source: str, parquet: Path) -> None:
    found = opened(parquet, source)
    assert [file.uri for file in found.files] == [f"raw/part-{i}.parquet" for i in range(3)]
    assert values(found, "id") == list(range(300))
    assert found.num_rows == 300


def test_batches_know_their_file_and_row(parquet: Path) -> None:
    for raw in batches(opened(parquet, "raw")):
        ids = np.array(raw.batch.column("id").to_pylist())
        assert (ids - raw.file * 100 + 1 == raw.row_numbers(np.arange(len(ids)))).all()


def test_only_the_columns_asked_for_are_read(parquet: Path) -> None:
    assert all(raw.batch.schema.names == ["id"] for raw in batches(opened(parquet, "raw"), ["id", "absent"]))


def test_large_row_groups_are_streamed_with_the_same_result(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.data.readers._GROUP_BYTES", 1)
    assert values(opened(parquet, "raw"), "id") == list(range(300))


def test_hive_partitions_become_columns(tmp_path: Path) -> None:
    for year, month in (("2013", "01"), ("2013", "02"), ("2014", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "raw" / f"year={year}" / f"month={month}"
        folder.mkdir(parents=True)
        pq.write_table(table(0, 2), folder / "a.parquet")
    for source in ("raw", "raw/*/*/*.parquet", "raw/year=*"):
        found = opened(tmp_path, source)
        assert values(found, "month") == ["01", "01", "02", "02", None, None]
        assert set(found.columns_of(0)) >= {"id", "y", "month"}
    assert values(opened(tmp_path, "raw"), "year") == ["2013"] * 4 + ["2014"] * 2


def test_csv_stays_text_and_empty_fields_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfid,y,note\r\n1,NA,"a, b"\r\n2,,"two\nlines"\r\n')
    found = opened(tmp_path, "a.csv")
    assert values(found, "id") == ["1", "2"]
    assert values(found, "y") == ["NA", None]
    assert values(found, "note") == ["a, b", "two\nlines"]


def test_compressed_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,y\n1,2\n"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1, "y": 2}\n'))
    assert values(opened(tmp_path, "a.csv.gz"), "y") == ["2"]
    assert values(opened(tmp_path, "b.jsonl.gz"), "y") == [2]
    assert format_of("x.parquet.gz") is None


def test_rows_with_too_few_or_too_many_fields_are_set_aside_and_later_rows_keep_their_numbers(tmp_path: Path) -> None:
    lines = ["id,y", *(f"{i},0" for i in range(1, 8))]
    lines[3], lines[6] = "3", "6,0,0"
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    found = batches(opened(tmp_path, "a.csv"))
    broken = [item for raw in found for item in raw.broken]
    assert [(item.row, item.reason, item.text) for item in broken] == [(3, "columns", "3"), (6, "columns", "6,0,0")]
    for raw in found:
        numbers = raw.row_numbers(np.arange(raw.batch.num_rows)).tolist()
        assert [str(number) for number in numbers] == raw.batch.column("id").to_pylist()


def test_json_lines_may_leave_out_fields_and_mix_types(tmp_path: Path) -> None:
    lines = [b'{"id": 1, "y": true}', b"", b'{"id": 2.5}', b'{"id": "x", "extra": {"a": 1}}', b"{broken", b"[1]"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = batches(opened(tmp_path, "a.jsonl"), ["id", "y"])
    assert found[0].batch.column("id").to_pylist() == ["1", "2.5", "x"]
    assert found[0].batch.column("y").to_pylist() == [True, None, None]
    assert [(item.row, item.reason) for item in found[0].broken] == [(5, "json"), (6, "json")]


def test_many_blocks_of_text_are_in_order_and_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.data.csv_reader._BLOCK_BYTES", 4096)
    monkeypatch.setattr("fairlead.data.json_reader._BATCH_ROWS", 500)
    rows = pa.table({"id": range(5000), "y": [0.5] * 5000})
    pa_csv.write_csv(rows, tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows.to_pylist()))
    for name in ("a.csv", "b.jsonl"):
        found = batches(opened(tmp_path, name))
        assert len(found) > 5
        assert [int(v) for raw in found for v in raw.batch.column("id").to_pylist()] == list(range(5000))
        assert [raw.start for raw in found] == np.cumsum([0, *(raw.batch.num_rows for raw in found)])[:-1].tolist()


@pytest.mark.parametrize("source", ["absent.parquet", "absent/*.csv", "empty"])
def test_a_source_without_files_is_named(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFound, match=source.replace("*", r"\*")):
        opened(tmp_path, source)


def test_mixed_and_unknown_formats_are_refused(tmp_path: Path) -> None:
    pq.write_table(table(0, 2), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("id,y\n1,2\n")
    (tmp_path / "c.dat").write_text("id,y\n1,2\n")
    with pytest.raises(SourceUnreadable, match="cannot tell the format"):
        opened(tmp_path, ("a.parquet", "b.csv"))
    with pytest.raises(SourceUnreadable, match="cannot tell the format"):
        opened(tmp_path, "c.dat")
    assert values(opened(tmp_path, "c.dat", format="csv"), "id") == ["1"]


@pytest.mark.parametrize("kept", [0, 3, 50, -200, -8, -1])
def test_a_truncated_parquet_file_is_named(kept: int, parquet: Path) -> None:
    path = parquet / "raw" / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SourceUnreadable, match=r"raw/part-1\.parquet"):
        batches(opened(parquet, "raw"))


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rng = np.random.default_rng(7)
    pq.write_table(pa.table({"y": rng.normal(size=4000)}), path, row_group_size=1000, use_dictionary=False)
    column = pq.read_metadata(path).row_group(2).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 60] = b"\xff" * 60
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable, match=r"a\.parquet, row group 2"):
        batches(opened(tmp_path, "a.parquet"))


def test_a_parquet_string_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"y": bad}), tmp_path / "a.parquet")
    with pytest.raises(SourceUnreadable, match="column y is not UTF-8"):
        batches(opened(tmp_path, "a.parquet"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"id;y\n1;2\n", "not separated by commas"),
        (b"id\ty\n1\t2\n", "not separated by commas"),
        (b"id,id\n1,2\n", "twice: id"),
        (b",\n1,2\n", "has no column names"),
        ("id,stra\xdfe\n1,2\n".encode("latin-1"), r"not UTF-8 text"),
        ("id,y\n".encode("utf-16"), "UTF-16 text, not UTF-8"),
    ],
)
def test_a_wrong_csv_header_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(SourceUnreadable, match=said):
        batches(opened(tmp_path, "a.csv"))


def test_a_column_without_a_name_gets_one_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",id,unnamed_3,\n7,1,2,9\n")
    found = opened(tmp_path, "a.csv")
    assert list(found.columns_of(0)) == ["unnamed_1", "id", "unnamed_3", "unnamed_4"]
    assert values(found, "unnamed_1") == ["7"]


@pytest.mark.parametrize("delimiter", [";", "\t", "tab", "|", "^"])
def test_a_declared_delimiter_is_read(delimiter: str, tmp_path: Path) -> None:
    character = "\t" if delimiter == "tab" else delimiter
    (tmp_path / "a.csv").write_text(f"id{character}y\n1{character}a, b\n")
    assert values(opened(tmp_path, "a.csv", delimiter=delimiter), "y") == ["a, b"]


@pytest.mark.parametrize("delimiter", ["", ";;", "a", '"', "\n", ".", "-"])
def test_what_cannot_separate_is_no_delimiter(delimiter: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one character"):
        opened(tmp_path, "a.csv", delimiter=delimiter)


def test_row_numbers_are_right_after_many_broken_rows_in_many_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.data.csv_reader._BLOCK_BYTES", 700)
    lines = ["id,y", *(f"{i},0" if i % 3 else f"{i}" for i in range(1, 3000))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    found = batches(opened(tmp_path, "a.csv"))
    assert len(found) > 10
    assert [item.row for raw in found for item in raw.broken] == list(range(3, 3000, 3))
    for raw in found:
        numbers = raw.row_numbers(np.arange(raw.batch.num_rows)).tolist()
        assert [str(number) for number in numbers] == raw.batch.column("id").to_pylist()


def test_an_open_quote_is_found_in_a_column_that_is_not_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,y\n1,x\n2,"x\n3,x\n4,x\n')
    with pytest.raises(SourceUnreadable, match=r"does not close\n.*row 2"):
        batches(opened(tmp_path, "a.csv"), ["id"])


def test_a_quote_that_stands_for_inches_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,y\n1,7" pipe\n2,"x\ny"\n3,x\n')
    assert values(opened(tmp_path, "a.csv"), "y") == ['7" pipe', "x\ny", "x"]


def test_a_wrong_encoding_is_named_with_its_row(tmp_path: Path) -> None:
    lines = [b"id,y", *(b"%d,ok" % i for i in range(1, 500))]
    lines[321] = "321,gr\xfcn".encode("latin-1")
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(SourceUnreadable, match=r"a\.csv, row 321"):
        batches(opened(tmp_path, "a.csv"))


def test_a_file_that_is_no_json_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('[\n{"y": 1},\n{"y": 2}\n]\n')
    with pytest.raises(SourceUnreadable, match="not JSON Lines"):
        batches(opened(tmp_path, "a.jsonl"))


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.data.json_reader._MAX_LINE_BYTES", 1000)
    (tmp_path / "a.jsonl").write_text('{"y": 1}\n{"y": "' + "x" * 5000 + '"}\n')
    with pytest.raises(SourceUnreadable, match="row 2"):
        batches(opened(tmp_path, "a.jsonl"))


def test_the_fingerprint_follows_names_and_content(parquet: Path) -> None:
    data = Data.model_validate({"source": "raw", "label": {"column": "y"}})
    first = source_fingerprint(data, parquet)
    assert source_fingerprint(data, parquet) == first
    path = parquet / "raw" / "part-1.parquet"
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    changed = source_fingerprint(data, parquet)
    assert changed != first
    path.rename(path.with_name("part-7.parquet"))
    assert source_fingerprint(data, parquet) not in (first, changed)


def test_digests_are_remembered_for_unchanged_files(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data.model_validate({"source": "raw", "label": {"column": "y"}})
    first = source_fingerprint(data, parquet)
    monkeypatch.setattr("fairlead.data.sources._digest", lambda file: pytest.fail(f"read {file.uri} again"))
    assert source_fingerprint(data, parquet) == first


@pytest.mark.s3
def test_s3_is_read_like_a_folder(s3_store_uri: str) -> None:
    filesystem = s3_filesystem()
    root = s3_store_uri.removeprefix("s3://")
    for part in range(2):
        name = f"{root}/raw/year=201{part}/part.parquet"
        with filesystem.open_output_stream(name) as sink:
            pq.write_table(table(part * 100, 100), sink, row_group_size=30)
    for source in (f"{s3_store_uri}/raw", f"{s3_store_uri}/raw/*/*.parquet", f"{s3_store_uri}/**/part.parquet"):
        found = opened(Path(), source)
        assert values(found, "id") == list(range(200))
        assert values(found, "year") == ["2010"] * 100 + ["2011"] * 100
        assert found.files[0].uri == f"{s3_store_uri}/raw/year=2010/part.parquet"
    with pytest.raises(SourceNotFound, match="absent"):
        opened(Path(), f"{s3_store_uri}/absent")
    with pytest.raises(SourceNotFound):
        opened(Path(), "s3://no-such-bucket-here/x")


def test_the_endpoint_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    filesystem = s3_filesystem()
    assert isinstance(filesystem, fs.S3FileSystem)
    assert filesystem.region == "eu-west-1"
