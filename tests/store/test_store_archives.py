"""A project folder on its way to pods: the same bytes for the same files, and nothing that leads elsewhere."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from fairlead.errors import IntegrityError, StoreError
from fairlead.store.archives import archive_key, fetch_folder, pack, publish_folder, unpack
from fairlead.testing.memory_store import MemoryStore


def project(base: Path) -> Path:
    (base / "code").mkdir(parents=True)
    (base / "fairlead.yaml").write_text("project: x\n")
    (base / "code" / "model.py").write_text("def build(): ...\n")
    (base / "data").mkdir()
    (base / "data" / "rows.parquet").write_bytes(b"rows")
    (base / ".fairlead").mkdir()
    (base / ".fairlead" / "token").write_text("secret")
    (base / "__pycache__").mkdir()
    (base / "__pycache__" / "x.pyc").write_bytes(b"x")
    return base


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return archive.getnames()


def test_code_and_settings_travel_data_and_hidden_files_do_not(tmp_path: Path) -> None:
    assert names(pack(project(tmp_path / "p"), ["data/*.parquet"])) == ["code/model.py", "fairlead.yaml"]


def test_the_ignore_file_names_more(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    (folder / ".fairleadignore").write_text("# not needed\ndata/\n")
    assert "data/rows.parquet" not in names(pack(folder))


def test_time_and_place_change_nothing(tmp_path: Path) -> None:
    first, second = project(tmp_path / "a"), project(tmp_path / "b")
    os.utime(second / "fairlead.yaml", (1, 1))
    assert pack(first) == pack(second)


def test_it_comes_back_as_it_was_and_is_uploaded_once(tmp_path: Path) -> None:
    store = MemoryStore()
    digest = publish_folder(store, project(tmp_path / "p"))
    assert publish_folder(store, tmp_path / "p") == digest
    assert store.list("projects/") == [archive_key(digest)]
    folder = fetch_folder(store, digest, tmp_path / "cache")
    assert (folder / "code" / "model.py").read_text() == "def build(): ...\n"
    assert fetch_folder(store, digest, tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest]


def test_another_content_under_the_digest_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    digest = publish_folder(store, project(tmp_path / "p"))
    store.write(archive_key(digest), pack(tmp_path / "p" / "code"))
    with pytest.raises(IntegrityError, match="damaged"):
        fetch_folder(store, digest, tmp_path / "cache")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    (tmp_path / "outside").write_text("x")
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="leads out"):
        pack(folder)


def test_a_folder_that_is_no_code_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.store.archives.MAX_FILES", 1)
    with pytest.raises(StoreError, match="too large") as caught:
        pack(project(tmp_path / "p"))
    assert ".fairleadignore" in str(caught.value.fix)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(IntegrityError):
        unpack(buffer.getvalue(), tmp_path / "to")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("x")
        member.type, member.linkname = kind, "fairlead.yaml"
        archive.addfile(member)
    with pytest.raises(IntegrityError, match="no file"):
        unpack(buffer.getvalue(), tmp_path / "to")


@pytest.mark.parametrize("digest", ["", "x", "../" + "a" * 61, "A" * 64])
def test_only_digests_are_asked_for(digest: str) -> None:
    with pytest.raises(IntegrityError, match="not the digest"):
        archive_key(digest)
