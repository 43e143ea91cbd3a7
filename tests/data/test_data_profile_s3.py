"""A profile of files on S3: what local files give, and on the second look not a byte of theirs is read."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from test_data_profile import SPEC, orders

from fairlead.data.profile import ProfileOptions, profile_data
from fairlead.data.summary import stream
from fairlead.data.summary.cache import FOLDER
from fairlead.spec.project import Project
from fairlead.testing.seaweedfs import S3Server

pytestmark = pytest.mark.s3


def put(server: S3Server, uri: str, table: pa.Table) -> None:
    """Write a Parquet file to the real server."""
    found = fs.S3FileSystem(
        endpoint_override=server.endpoint.removeprefix("http://"),
        scheme="http",
        access_key=server.environment["AWS_ACCESS_KEY_ID"],
        secret_key=server.environment["AWS_SECRET_ACCESS_KEY"],
    )
    pq.write_table(table, uri.removeprefix("s3://"), filesystem=found)


def facts(base: Path, source: str, *, cache: bool = True) -> dict[str, Any]:
    """The profile but for its source, time and memory."""
    project = Project.model_validate(SPEC | {"data": SPEC["data"] | {"source": source}})
    value: dict[str, Any] = json.loads(profile_data(project, base, ProfileOptions(cache=cache)).model_dump_json())
    return {k: v for k, v in value.items() if k not in ("source", "seconds", "memory_peak_bytes")}


def test_files_on_s3_are_profiled_like_local_ones_and_kept_by_their_content(
    s3_server: S3Server, s3_store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = stream.FileReader.summarise

    def counting(self: Any, raw: Any) -> Any:
        read.append(raw.file)
        return original(self, raw)

    monkeypatch.setattr(stream.FileReader, "summarise", counting)
    for day in range(3):
        put(s3_server, f"{s3_store_uri}/day-{day}.parquet", orders(800, day))
    first = facts(tmp_path, s3_store_uri)
    assert first["rows"] == 2400
    assert first["leaks"]["rows"] > 2300, "the scan read them as well, but for rows with infinite numbers"
    assert {"leak"} == {item["column"] for item in first["leaks"]["columns"] if item["severity"] == "fail"}
    assert sorted(read) == [0, 1, 2]
    assert len(list((tmp_path / FOLDER).iterdir())) == 3
    read.clear()
    assert facts(tmp_path, s3_store_uri) == first
    assert read == []
    put(s3_server, f"{s3_store_uri}/day-3.parquet", orders(500, 3))
    second = facts(tmp_path, s3_store_uri)
    assert (second["rows"], read) == (2900, [3]), "a new day costs the new day"
    put(s3_server, f"{s3_store_uri}/day-1.parquet", orders(900, 7))
    read.clear()
    assert facts(tmp_path, s3_store_uri)["rows"] == 3000
    assert read == [1], "another content under the same name is read again"
    assert facts(tmp_path, s3_store_uri, cache=False) == facts(tmp_path, s3_store_uri)
