"""The release that should be live, as it is stored: one object, changed by compare-and-swap only."""

from fairlead.errors import KeyExists, KeyMissing, ServeError, VersionConflict
from fairlead.records.codec import from_json, to_json
from fairlead.records.release import Release
from fairlead.store.protocol import Store


class ReleaseStore:
    """Reads and writes ``releases/<model>.json``. Blocking."""

    def __init__(self, store: Store, model: str, record: str = "") -> None:
        """`record`: another name than the model's, where several servers of one model have releases of their own."""
        self._store, self._key = store, f"releases/{record or model}.json"

    def read(self) -> Release | None:
        """The stored release, or None. Raises ServeError when it cannot be understood."""
        try:
            data = self._store.read(self._key)
        except KeyMissing:
            return None
        return self._decode(data)

    def write(self, release: Release) -> Release:
        """Store `release` unless a higher generation, or the same with other content, is there. Gives what is stored
        afterwards."""
        while True:
            try:
                data, version = self._store.read_versioned(self._key)
            except KeyMissing:
                try:
                    self._store.create(self._key, to_json(release))
                    return release
                except KeyExists:
                    continue
            stored = self._decode(data)
            if stored.generation >= release.generation:
                return stored
            try:
                self._store.replace(self._key, to_json(release), version)
                return release
            except VersionConflict:
                continue

    def _decode(self, data: bytes) -> Release:
        try:
            return from_json(Release, data)
        except (ValueError, KeyError, TypeError) as error:
            raise ServeError(
                "the stored release cannot be read",
                where=self._store.url(self._key),
                why=str(error),
                fix="Remove it, and promote a version again.",
            ) from error
