"""A store in an S3 bucket: conditional writes by ``If-None-Match: *`` and ``If-Match``. The only home of boto3.

A request that got no answer may still have been carried out. Each conditional write therefore carries an identity
of its own in the object's metadata: when a retry is told "somebody was here before", the object says whether that
was us.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import environ, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import boto3
import botocore.exceptions
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from fairlead.errors import FairleadError, KeyExists, KeyMissing, StoreError, VersionConflict
from fairlead.logs import get_logger
from fairlead.store.disk_errors import explain_os_error
from fairlead.store.keys import check_key, check_prefix

_log = get_logger(__name__)

_ATTEMPTS = 5
_CHUNK_BYTES = 1 << 20
_WRITE_ID = "fairlead-write"
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_BUSY = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "ConditionalRequestConflict",
        "OperationAborted",
    }
)
_NO_ANSWER = (
    botocore.exceptions.HTTPClientError,  # reading, proxies, broken streams
    botocore.exceptions.ConnectionError,  # connecting
    botocore.exceptions.IncompleteReadError,
)

T = TypeVar("T")


class S3Store:
    """Objects below ``s3://bucket/prefix``. One instance may be used from several threads; it survives pickling."""

    def __init__(self, bucket: str, prefix: str = "", *, client: Any = None, attempts: int = _ATTEMPTS) -> None:
        """`prefix` without leading or trailing slash. `client`: a boto3 client (default: from the environment)."""
        self._bucket = bucket
        self._prefix = check_prefix(prefix.strip("/"))
        self._attempts = attempts
        self._made_client = client

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made_client": None}

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def url(self, key: str) -> str:
        """The s3:// URI of a key or prefix."""
        return f"{self.uri}/{check_prefix(key)}"

    def local_path(self, key: str) -> None:
        """None: nothing lies on this machine."""
        check_prefix(key)

    def read(self, key: str) -> bytes:
        """The object's content."""
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The object's content and its ETag."""

        place = self._at(key)

        def get() -> tuple[bytes, str]:
            answer = self._client.get_object(**place)
            return answer["Body"].read(), answer["ETag"]

        return self._call(key, get)

    def exists(self, key: str) -> bool:
        """Is there an object?"""
        place = self._at(key)
        try:
            self._call(key, lambda: self._client.head_object(**place))
        except KeyMissing:
            return False
        return True

    def create(self, key: str, data: bytes) -> str:
        """Write an object that must not exist."""
        version = self._put_if(key, data, {"IfNoneMatch": "*"})
        if version is None:
            raise KeyExists(f"{key} exists already", where=self.url(key))
        return version

    def replace(self, key: str, data: bytes, version: str) -> str:
        """Write an object that must still have the ETag `version`."""
        try:
            new = self._put_if(key, data, {"IfMatch": version})
        except KeyMissing as error:
            raise VersionConflict(f"{key} was removed meanwhile", where=self.url(key), why="it is gone") from error
        if new is None:
            raise VersionConflict(f"{key} was changed meanwhile", where=self.url(key))
        return new

    def write(self, key: str, data: bytes) -> None:
        """Write an object."""
        place = self._at(key)
        self._call(key, lambda: self._client.put_object(**place, Body=data))

    def upload(self, local: Path, key: str) -> None:
        """Write an object from a local file, in parts when it is large; parts of a failed upload are removed."""
        transfer = TransferConfig(use_threads=False)
        place = self._at(key)
        self._call(key, lambda: self._client.upload_file(str(local), *place.values(), Config=transfer))

    def download(self, key: str, local: Path) -> None:
        """Stream an object into a local file."""
        place = self._at(key)
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f".part-{uuid.uuid4().hex}")

        def get() -> None:
            answer = self._client.get_object(**place)
            with temporary.open("wb") as file:
                for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                    file.write(chunk)

        try:
            self._call(key, get)
            replace(temporary, local)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove an object."""
        place = self._at(key)
        try:
            self._call(key, lambda: self._client.delete_object(**place))
        except KeyMissing:
            return

    def list(self, prefix: str = "") -> list[str]:
        """All keys that start with `prefix`."""
        start = f"{self._prefix}/" if self._prefix else ""
        full = f"{start}{check_prefix(prefix)}"

        def pages() -> list[str]:
            found: list[str] = []
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=full):
                found.extend(entry["Key"][len(start) :] for entry in page.get("Contents", ()))
            return found

        return sorted(key for key in self._call(prefix, pages) if not key.endswith("/"))

    def _put_if(self, key: str, data: bytes, condition: dict[str, str]) -> str | None:
        """Write under a condition; None when the condition did not hold (and no earlier attempt of ours was done)."""
        place, write_id = self._at(key), uuid.uuid4().hex
        tries = 0

        def put() -> str | None:
            nonlocal tries
            tries += 1
            try:
                answer = self._client.put_object(**place, Body=data, Metadata={_WRITE_ID: write_id}, **condition)
            except botocore.exceptions.ClientError as error:
                if _code(error) not in ("PreconditionFailed", "412"):
                    raise
                return self._own_version(key, write_id) if tries > 1 else None
            version: str = answer["ETag"]
            return version

        return self._call(key, put)

    def _own_version(self, key: str, write_id: str) -> str | None:
        """The object's version when an attempt without an answer had written it after all."""
        try:
            head = self._client.head_object(**self._at(key))
        except botocore.exceptions.ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        version: str = head["ETag"]
        return version if head.get("Metadata", {}).get(_WRITE_ID) == write_id else None

    def _at(self, key: str) -> dict[str, str]:
        check_key(key)
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{key}" if self._prefix else key}

    @property
    def _client(self) -> Any:
        if self._made_client is None:
            self._made_client = make_client()
        return self._made_client

    def _call(self, key: str, action: Callable[[], T]) -> T:
        """Do `action`, again after a pause while the server is busy or silent; foreign errors become StoreError."""
        with self._explained(key):
            for attempt in Retrying(
                stop=stop_after_attempt(self._attempts),
                wait=wait_random_exponential(multiplier=0.1, max=2.0),
                retry=retry_if_exception(_is_transient),
                reraise=True,
            ):
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        _log.info("trying %s again (attempt %d)", self.url(key), attempt.retry_state.attempt_number)
                    return action()
        raise AssertionError("unreachable: the last attempt raises")

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except FairleadError:
            raise
        except botocore.exceptions.ClientError as error:
            self._explain_answer(key, error)
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise StoreError(
                "there are no credentials for the store",
                where=self.uri,
                why=str(error),
                fix="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
            ) from error
        except (botocore.exceptions.BotoCoreError, Boto3Error) as error:
            cause = error.__cause__ or error.__context__
            if isinstance(error, Boto3Error) and isinstance(cause, botocore.exceptions.ClientError):
                self._explain_answer(key, cause)
            raise StoreError(
                "the store does not answer" if isinstance(error, _NO_ANSWER) else "the store cannot be used",
                where=f"{self.uri} at {_endpoint()}",
                why=str(error),
                fix="Check AWS_ENDPOINT_URL and the network; then run the same command again.",
            ) from error
        except OSError as error:  # of the local file; botocore's own network errors are caught above
            raise explain_os_error(error, key, self.uri) from error

    def _explain_answer(self, key: str, error: botocore.exceptions.ClientError) -> NoReturn:
        code = _code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        why = f"{code} (HTTP {status}): {error.response.get('Error', {}).get('Message') or 'no message'}"
        if code == "NoSuchBucket":
            raise StoreError(
                f"there is no bucket {self._bucket}",
                where=f"{self.uri} at {_endpoint()}",
                why=why,
                fix="Create the bucket, or name another one under `store` in fairlead.yaml.",
            ) from error
        if code in _MISSING:
            raise KeyMissing(f"there is no {key} in the store", where=self.uri) from error
        if status in (401, 403):
            raise StoreError(
                "the store refuses these credentials",
                where=f"{self.uri} at {_endpoint()}",
                why=why,
                fix="Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, what they may do in the bucket, and the clock.",
            ) from error
        raise StoreError(
            f"the store refuses {key or 'the request'}",
            where=f"{self.uri} at {_endpoint()}",
            why=why,
            fix="Run the same command again; when it stays so, look at the S3 server's log.",
        ) from error


def make_client() -> Any:
    """A boto3 S3 client from the usual environment. Retries are off: `S3Store` knows which ones are safe."""
    custom_endpoint = _endpoint() != "AWS"
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=5,
        read_timeout=30,
        # Servers other than AWS seldom have a name per bucket, or the newer trailing checksums.
        s3={"addressing_style": "path" if custom_endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    session = boto3.session.Session()  # the default session is not safe to share between threads
    return session.client("s3", config=config, region_name=region or session.region_name or "us-east-1")


def _endpoint() -> str:
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or "AWS"


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, botocore.exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or _code(error) in _BUSY
    if isinstance(error, Boto3Error):
        cause = error.__cause__ or error.__context__
        return cause is not None and _is_transient(cause)
    return isinstance(error, _NO_ANSWER)
