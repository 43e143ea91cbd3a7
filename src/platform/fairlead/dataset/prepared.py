"""A data set in a local folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.dataset.files import MANIFEST, STATISTICS, TRANSFORM, digests_of, fingerprint_of, is_plain_name, sha256_of
from fairlead.errors import PreparedDataDamaged
from fairlead.records.codec import from_json
from fairlead.records.data import DatasetManifest, Statistics


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A part of a shard that is read at once: `index` counts within `file`."""

    file: str
    index: int
    rows: int


class PreparedData:
    """Reads the data set in `folder`. Raises PreparedDataDamaged when there is no whole manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        self._metadata: dict[str, pq.FileMetaData] = {}

    def verify(self) -> None:
        """Compare every file with its digest. Raises PreparedDataDamaged naming all that differ."""
        problems = []
        for name, digest in sorted(digests_of(self.manifest).items()):
            path = self.folder / name
            if not path.is_file():
                problems.append(f"{name} is missing")
            elif sha256_of(path) != digest:
                problems.append(f"{name} has another digest")
        if fingerprint_of(self.manifest) != self.manifest.fingerprint:
            problems.append(f"{MANIFEST} does not have its own fingerprint")
        if problems:
            raise _damaged(self.folder, "; ".join(problems))

    def transform_json(self) -> bytes:
        """The fitted transform, as `features.transform.Transform.from_json` takes it."""
        return self._bytes(TRANSFORM)

    @cached_property
    def _statistics(self) -> Statistics:
        return from_json(Statistics, self._bytes(STATISTICS))

    def statistics(self) -> Statistics:
        """Statistics of the training split: the features, and the label under its name inside the shards."""
        return self._statistics

    def row_groups(self, split: str) -> tuple[RowGroup, ...]:
        """All row groups of a split, in the order of its rows."""
        groups = []
        for shard in self.manifest.shards:
            if shard.split == split:
                metadata = self._metadata_of(shard.path)
                groups += [
                    RowGroup(shard.path, i, metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)
                ]
        return tuple(groups)

    def read(self, row_group: RowGroup, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one row group."""
        names = None if columns is None else list(columns)
        try:
            metadata = self._metadata_of(row_group.file)
            with pq.ParquetFile(self.folder / row_group.file, metadata=metadata, memory_map=True) as file:
                return file.read_row_group(row_group.index, columns=names)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.folder, f"{row_group.file}, row group {row_group.index}: {error}") from error

    def table(self, split: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a split in memory."""
        groups = [self.read(group, columns) for group in self.row_groups(split)]
        if groups:
            return pa.concat_tables(groups)
        raise PreparedDataDamaged(f"the data set has no rows in the split {split}", where=str(self.folder))

    def batches(self, split: str, columns: Sequence[str] | None = None, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The rows of a split in batches of `rows` at most; memory holds one row group."""
        for group in self.row_groups(split):
            yield from self.read(group, columns).combine_chunks().to_batches(max_chunksize=rows)

    def _metadata_of(self, name: str) -> pq.FileMetaData:
        if name not in self._metadata:
            try:
                self._metadata[name] = pq.read_metadata(self.folder / name)
            except (OSError, pa.ArrowException) as error:
                raise _damaged(self.folder, f"{name}: {error}") from error
        return self._metadata[name]

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise _damaged(self.folder, f"{name}: {error.strerror or error}") from error


def _read_manifest(folder: Path) -> DatasetManifest:
    path = folder / MANIFEST
    try:
        manifest = from_json(DatasetManifest, path.read_bytes())
    except FileNotFoundError:
        raise _damaged(folder, f"there is no {MANIFEST}, so writing it was never finished") from None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read: {error}") from error
    strange = sorted(name for name in digests_of(manifest) if not is_plain_name(name))
    if strange:
        raise _damaged(folder, f"{MANIFEST} names files outside of its folder: {', '.join(strange)}")
    return manifest


def _damaged(folder: Path, why: str) -> PreparedDataDamaged:
    return PreparedDataDamaged(
        "the prepared data does not match its manifest",
        where=str(folder),
        why=why,
        fix="remove the folder and prepare the data again",
    )
