"""Prepared data at rest: Parquet shards with bounded row groups, a manifest that is written last, a verified reader.

Here live: the files and their digests (`files`), the writer, the reader, and the way to and from a store (`transport`).
Never here: how rows came about, what a transform does with them.
"""

from fairlead.dataset.files import LABEL, MANIFEST, WEIGHT
from fairlead.dataset.prepared import PreparedData, RowGroup
from fairlead.dataset.transport import fetch_prepared, publish_prepared
from fairlead.dataset.writer import DatasetWriter

__all__ = [
    "LABEL",
    "MANIFEST",
    "WEIGHT",
    "DatasetWriter",
    "PreparedData",
    "RowGroup",
    "fetch_prepared",
    "publish_prepared",
]
