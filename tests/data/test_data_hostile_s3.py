"""S3 that refuses, fails, and breaks off: retried where that helps, else a coded error that names the object."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile.running import differences
from hostile.s3_cases import S3Case, cases

from fairlead.testing.faulty_s3 import FaultyS3, faulty_s3
from fairlead.testing.seaweedfs import S3Server

pytestmark = pytest.mark.s3
CASES = list(cases())


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[FaultyS3]:
    with faulty_s3(s3_server.endpoint) as found:
        yield found


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}, {case.kind}" for case in CASES])
def test_each_fault_is_outlived_or_told_with_its_object(
    case: S3Case, proxy: FaultyS3, s3_store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put(tmp_path / "made", s3_store_uri)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    seen = case.run(proxy, s3_store_uri, tmp_path)
    assert differences(case.case(s3_store_uri), seen, tmp_path) == []
    assert proxy.faults[0].seen >= min(case.fault.times, 1)
