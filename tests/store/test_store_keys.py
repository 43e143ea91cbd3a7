"""Hostile keys and links: nothing is read or written outside of the store."""

import os
import string
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.errors import KeyMissing, KeyRefused, StoreError
from fairlead.store import open_store
from fairlead.store.folder import FolderStore
from fairlead.store.keys import MAX_KEY_BYTES, check_key, check_prefix
from fairlead.store.s3 import S3Store

SECRET = b"outside"

HOSTILE = [
    *("", ".", "..", "/", "//", "/etc/passwd", "../x", "a/../x", "a/..", "a/./b", "./a", "a//b", "a/", "/a", "~/x"),
    *("a\\b", "..\\x", "C:\\x", "C:x", "a\0b", "a\nb", "a\n", "a\rb", "a\tb", " a", "a ", "a b", "\x7f", "a#b", "a?b"),
    *("%2e%2e/x", "%2E%2E%2Fx", "a%00b", "%252e%252e/x", "a%2fb", "a%5cb", "..%c0%afx", "%", "a%"),
    *("a\u2215b", "\uff0e\uff0e/x", "a\u202eb", "\u2024\u2024/x", "é", "e\u0301", "a\u200b", "a\ud800"),
    *(".hidden", "a/.hidden", ".locks/00", ".staged/x", "-rf", "a/-rf", "a:b", "a*b", "a|b", "a;b", "$HOME", "`x`"),
    *("a" * 201, "a/" * 450 + "a", "x" * (MAX_KEY_BYTES + 1)),
]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "outside").write_bytes(SECRET)
    return FolderStore(tmp_path / "store")


def doors(store: FolderStore, local: Path) -> list[Callable[[str], object]]:
    return [
        *(store.read, store.read_versioned, store.exists, store.delete, store.local_path, store.url),
        *(lambda key: store.write(key, b"x"), lambda key: store.create(key, b"x")),
        lambda key: store.replace(key, b"x", "v"),
        *(lambda key: store.upload(local, key), lambda key: store.download(key, local)),
    ]


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: ascii(key)[:30])
def test_a_hostile_key_is_refused_at_every_door(store: FolderStore, tmp_path: Path, key: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    for door in doors(store, tmp_path / "outside"):
        if key in ("", "a/") and door in (store.local_path, store.url):
            continue  # prefixes may be asked for
        with pytest.raises(KeyRefused):
            door(key)
    with pytest.raises(KeyRefused):
        S3Store("bucket", "prefix").read(key)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "outside").read_bytes() == SECRET


PIECES = st.sampled_from(
    [".", "..", "/", "\\", "%2e", "%2f", "%5c", "a", "b", "\0", "#", "?", " ", "-", "~", "é", "store"]
)
KEYS = st.one_of(
    st.lists(PIECES, max_size=8).map("".join), st.text(max_size=40), st.text(string.printable, max_size=20)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS)
def test_any_key_is_refused_or_stays_inside_and_means_itself(store: FolderStore, tmp_path: Path, key: str) -> None:
    try:
        store.write(key, b"mine")
    except KeyRefused:
        assert (tmp_path / "outside").read_bytes() == SECRET
        return
    except StoreError:
        return  # an object where another key needs a folder
    path = (tmp_path / "store" / key).resolve()
    assert path.is_relative_to((tmp_path / "store").resolve())
    assert path.read_bytes() == b"mine"
    # Nothing in the key reads as something else once it is part of a URL.
    assert quote(key, safe="/=@+,") == key
    assert key in store.list()
    store.delete(key)
    assert (tmp_path / "outside").read_bytes() == SECRET


@given(KEYS)
def test_checking_a_key_gives_it_back_unchanged(key: str) -> None:
    try:
        assert check_key(key) == key
    except KeyRefused:
        return
    assert check_prefix(key) == check_prefix(key + "/").removesuffix("/") == key


def test_links_that_lead_out_are_neither_followed_nor_listed(store: FolderStore, tmp_path: Path) -> None:
    store.write("inside", b"1")
    root = tmp_path / "store"
    os.symlink(tmp_path / "outside", root / "file")
    os.symlink(tmp_path, root / "folder")
    os.symlink("../outside", root / "relative")
    os.symlink(root / "loop", root / "loop")
    for key in ("file", "folder/outside", "relative", "loop"):
        for door in doors(store, tmp_path / "local"):
            if door == store.url:
                continue  # text only
            with pytest.raises(KeyRefused):
                door(key)
    assert store.list() == ["inside"]
    assert (tmp_path / "outside").read_bytes() == SECRET


def test_links_inside_the_store_work(store: FolderStore, tmp_path: Path) -> None:
    store.write("real", b"1")
    os.symlink("real", tmp_path / "store" / "alias")
    assert store.read("alias") == b"1"
    assert store.list() == ["alias", "real"]


def test_a_store_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "store")
    store = FolderStore(tmp_path / "store")
    store.write("a/b", b"1")
    assert store.read("a/b") == b"1"
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize(
    "uri",
    [
        *("", "  ", "http://x/y", "s3://", "s3:///prefix", "ftp://x", "file://host/x", "s3://key:secret@bucket/x"),
        *("s3://bucket/x?versionId=1", "s3://bucket/x#y", "s3://bucket/../other", "s3://bucket/%2e%2e", "a\0b"),
    ],
)
def test_what_is_no_store_is_refused_and_secrets_are_not_repeated(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(uri, tmp_path)
    assert "secret" not in str(caught.value).replace("AWS_SECRET_ACCESS_KEY", "")
    assert caught.value.fix


def test_opening_creates_and_contacts_nothing(tmp_path: Path) -> None:
    store = open_store("store", tmp_path)
    open_store("s3://bucket/prefix", tmp_path)
    assert store.list() == []
    assert not store.exists("a")
    store.delete("a")
    with pytest.raises(KeyMissing):
        store.read("a")
    assert list(tmp_path.iterdir()) == []
