"""From a URI to a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fairlead.errors import StoreError
from fairlead.store.folder import FolderStore
from fairlead.store.protocol import Store

_FIX = "Use a folder such as .fairlead, or s3://bucket/prefix."


def open_store(uri: str, base: Path) -> Store:
    """The store that `uri` names: a folder (relative to `base`), ``file:///folder`` or ``s3://bucket/prefix``.

    Nothing is created or contacted until the first use. Credentials and the endpoint of S3 come from the environment
    (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ...), never from the URI. Raises StoreError for
    anything else.
    """
    if "\0" in uri or not uri.strip():
        raise StoreError(f"{uri!r} names no store", fix=_FIX)
    if "://" not in uri:
        return FolderStore(base / Path(uri).expanduser())
    parts = urlsplit(uri)
    if parts.username or parts.password or "@" in parts.netloc:
        raise StoreError(
            f"the store's URI carries credentials ({parts.scheme}://...)",
            why="The project file, logs and reports show it.",
            fix="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.",
        )
    if parts.query or parts.fragment:
        raise StoreError(f"the store's URI has a query or fragment: {uri}", fix=_FIX)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from fairlead.store.s3 import S3Store  # boto3 takes half a second to import

        return S3Store(parts.netloc, parts.path)
    raise StoreError(f"{uri} names no store", why=f"The scheme {parts.scheme!r} is not supported.", fix=_FIX)
