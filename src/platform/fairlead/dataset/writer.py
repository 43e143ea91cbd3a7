"""Writes a data set: everything into a staging folder, the manifest last, then one rename."""

import contextlib
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.atomic import sync_folder, write_atomic
from fairlead.dataset.files import MANIFEST, TRANSFORM, fingerprint_of, is_plain_name, sha256_of
from fairlead.dataset.prepared import PreparedData
from fairlead.errors import PreparedDataDamaged
from fairlead.records.codec import to_json
from fairlead.records.data import DatasetManifest, Shard

ROW_GROUP_ROWS = 65_536
SHARD_ROWS = 16 * ROW_GROUP_ROWS


class DatasetWriter:
    """Use as a context manager: leaving it without `finish` removes what was written.

    The data set appears in `folder` (which may exist when it is empty), or with `by_fingerprint` in a folder below it
    that is named by the fingerprint. Rows of a split are written in the order in which they come, in row groups of
    `row_group_rows` (fewer in the last of a shard) and shards of `shard_rows`; memory holds one row group per split.
    """

    def __init__(
        self,
        folder: Path,
        *,
        by_fingerprint: bool = False,
        row_group_rows: int = ROW_GROUP_ROWS,
        shard_rows: int = SHARD_ROWS,
    ) -> None:
        self._folder, self._by_fingerprint = folder, by_fingerprint
        self._row_group_rows, self._shard_rows = row_group_rows, max(shard_rows, row_group_rows)
        parent = folder if by_fingerprint else folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        self._staging = parent / f".staging-{uuid.uuid4().hex}"
        self._staging.mkdir()
        self._open: dict[str, _OpenShard] = {}
        self._waiting: dict[str, list[pa.Table]] = {}
        self._num_waiting: dict[str, int] = {}
        self._shards: list[Shard] = []
        self._numbers: dict[str, int] = {}
        self._files: dict[str, str] = {}

    def write(self, split: str, rows: pa.Table | pa.RecordBatch) -> None:
        """Add rows to a split. All batches of a data set have the same schema."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        if not table.num_rows:
            return
        self._waiting.setdefault(split, []).append(table)
        self._num_waiting[split] = self._num_waiting.get(split, 0) + table.num_rows
        if self._num_waiting[split] >= self._row_group_rows:
            self._flush(split, whole=False)

    def add_file(self, name: str, data: bytes) -> None:
        """Add a file beside the shards, e.g. transform.json."""
        if not is_plain_name(name) or name == MANIFEST:
            raise ValueError(f"not a plain file name: {name}")
        write_atomic(self._staging / name, data)
        self._files[name] = sha256_of(self._staging / name)

    def finish(self, manifest: DatasetManifest) -> PreparedData:
        """Write the manifest and let the data set appear.

        `manifest` carries the facts; its shards, files, transform_sha256 and fingerprint are filled in here. When the
        same data set is there already, it stays and is returned.
        """
        for split in list(self._waiting):
            self._flush(split, whole=True)
        for split in list(self._open):
            self._close(split)
        order = {split: i for i, split in enumerate(("train", "validation", "test"))}
        shards = tuple(sorted(self._shards, key=lambda shard: (order.get(shard.split, 9), shard.path)))
        manifest = replace(
            manifest, shards=shards, files=dict(self._files), transform_sha256=self._files.get(TRANSFORM, "")
        )
        manifest = replace(manifest, fingerprint=fingerprint_of(manifest))
        write_atomic(self._staging / MANIFEST, to_json(manifest))
        target = self._folder / manifest.fingerprint if self._by_fingerprint else self._folder
        return _appear(self._staging, target, manifest.fingerprint)

    def discard(self) -> None:
        """Remove everything that was written. Does nothing after `finish`."""
        for shard in self._open.values():
            with contextlib.suppress(OSError):  # the disk may be full; the file goes anyway
                shard.writer.close()
        self._open.clear()
        shutil.rmtree(self._staging, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _flush(self, split: str, *, whole: bool) -> None:
        table = pa.concat_tables(self._waiting.pop(split))
        self._num_waiting.pop(split)
        size = self._row_group_rows
        end = table.num_rows if whole else table.num_rows - table.num_rows % size
        for start in range(0, end, size):
            self._write_group(split, table.slice(start, min(size, end - start)))
        if end < table.num_rows:
            self._waiting[split] = [table.slice(end)]
            self._num_waiting[split] = table.num_rows - end

    def _write_group(self, split: str, group: pa.Table) -> None:
        shard = self._open.get(split)
        if shard is None:
            number = self._numbers.get(split, 0)
            self._numbers[split] = number + 1
            name = f"{split}-{number:05d}.parquet"
            shard = _OpenShard(name, pq.ParquetWriter(self._staging / name, group.schema, compression="snappy"))
            self._open[split] = shard
        shard.writer.write_table(group, row_group_size=self._row_group_rows)
        shard.rows += group.num_rows
        if shard.rows >= self._shard_rows:
            self._close(split)

    def _close(self, split: str) -> None:
        shard = self._open.pop(split)
        shard.writer.close()
        path = self._staging / shard.name
        self._shards.append(Shard(shard.name, split, shard.rows, path.stat().st_size, sha256_of(path)))


class _OpenShard:
    """A shard that is being written."""

    def __init__(self, name: str, writer: pq.ParquetWriter) -> None:
        self.name, self.writer, self.rows = name, writer, 0


def _appear(staging: Path, target: Path, fingerprint: str) -> PreparedData:
    existing = _same(target, fingerprint)
    if existing is not None:
        shutil.rmtree(staging, ignore_errors=True)
        return existing
    old = target.with_name(f".old-{uuid.uuid4().hex}")
    if target.exists() and any(target.iterdir()):
        target.rename(old)
    staging.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    return PreparedData(target)


def _same(folder: Path, fingerprint: str) -> PreparedData | None:
    """The whole data set in `folder` when it is this one."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        data = PreparedData(folder)
        data.verify()
    except PreparedDataDamaged:
        return None
    return data if data.manifest.fingerprint == fingerprint else None
