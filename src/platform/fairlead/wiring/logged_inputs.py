"""The raw inputs of recent requests, read back from the request log in the store."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairlead.errors import KeyMissing
from fairlead.store import Store


class LoggedInputs:
    """Follows the log of one model from an instant on; each file is read once. Files never change after they appear."""

    def __init__(self, store: Store, model: str, since: str, most_rows: int) -> None:
        """`since` is an ISO instant; of more than `most_rows` rows the newest are kept."""
        self._store, self._prefix, self._most = store, f"logs/{model}/requests/", most_rows
        self._since = datetime.fromisoformat(since)
        self._seen: set[str] = set()
        self._table: pa.Table | None = None

    def newest(self) -> pa.Table | None:
        """One column per input field, one row per request; None before the first request."""
        new = [key for key in self._store.list(self._prefix) if key not in self._seen]
        for key in new:
            self._seen.add(key)
            try:
                rows = self._read(key)
            except KeyMissing:  # removed by retention between the listing and the reading
                continue
            if rows is not None:
                tables = [rows] if self._table is None else [self._table, rows]
                table = pa.concat_tables(tables, promote_options="default")
                self._table = table.slice(max(0, table.num_rows - self._most))
        return self._table

    def _read(self, key: str) -> pa.Table | None:
        table = pq.read_table(pa.BufferReader(self._store.read(key)), columns=["time", "inputs"])
        recent = table.filter(pc.greater_equal(table["time"], pa.scalar(self._since, table["time"].type)))
        if not recent.num_rows:
            return None
        inputs = recent["inputs"].combine_chunks()
        struct = inputs.chunk(0) if isinstance(inputs, pa.ChunkedArray) else inputs
        return pa.table(dict(zip([f.name for f in struct.type], struct.flatten(), strict=True)))
