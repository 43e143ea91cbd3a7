"""What tests of several packages share: real servers, started once."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.testing.seaweedfs import S3Server, seaweedfs
from fairlead.wiring.local_ray import ensure_local_ray, stop_local_ray, use_environment

# Ray reads its token and address settings when it is imported, so they are set before any test module is.
RAY_BASE = Path(tempfile.mkdtemp(prefix="fairlead-tests-"))
use_environment(RAY_BASE)


def pytest_unconfigure() -> None:
    """Take the folder of the shared Ray away."""
    shutil.rmtree(RAY_BASE, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first; within them and among the others the order stays."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[str]:
    """The address of one local Ray for the whole session, as `fairlead up` starts it. `RAY_BASE` is its folder."""
    yield ensure_local_ray(RAY_BASE)
    stop_local_ray(RAY_BASE)


@pytest.fixture(scope="session")
def local_ray_base(local_ray: str) -> Path:
    """The project folder whose Ray `local_ray` is."""
    return RAY_BASE


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server (SeaweedFS) for the whole session."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def s3_store_uri(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh ``s3://bucket/prefix`` on the real server, with endpoint and credentials in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{uuid.uuid4().hex}"
