"""A store with real bundles, and an application around each."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from server_process import free_port
from tiny_models import write_bundle

from fairlead.records.release import Arm
from fairlead.serve.batcher import THREAD_PREFIX
from fairlead.store.opening import open_store
from fairlead.store.protocol import Store


@dataclass(frozen=True)
class Bundles:
    """A store and what was published to it."""

    store: Store
    base: Path
    first: Arm
    second: Arm
    fails: Arm
    hangs: Arm

    @property
    def cache(self) -> Path:
        return self.base / ".fairlead" / "cache" / "bundles"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Bundles in a folder store that no test changes."""
    base = tmp_path_factory.mktemp("published")
    store = open_store("store", base)
    return Bundles(
        store,
        base,
        first=write_bundle(store, base / "drafts", version=1),
        second=write_bundle(store, base / "drafts", version=2, bias=0.3),
        fails=write_bundle(store, base / "drafts", version=3, fault="fails"),
        hangs=write_bundle(store, base / "drafts", version=4, fault="hangs", trips=4_000_000),
    )


@pytest.fixture(scope="session")
def ray_port() -> int:
    """The port of the shared Ray's HTTP front: it keeps the first one that it was started with."""
    return free_port()


@pytest.fixture(scope="session", autouse=True)
def _no_call_outlives_the_tests() -> Iterator[None]:
    """Calls of the endless model end by themselves; the interpreter must not end before them."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_PREFIX):
            thread.join(timeout=30)


@pytest.fixture
def bundles(published: Bundles, tmp_path: Path) -> Bundles:
    """The same bundles in a store of the test's own."""
    return copy_of(published, tmp_path)


def copy_of(published: Bundles, base: Path) -> Bundles:
    """The same bundles in a store below `base`."""
    shutil.copytree(published.base / "store", base / "store")
    return replace(published, store=open_store("store", base), base=base)
