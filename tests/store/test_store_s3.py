"""What only a network can do wrong: answers that get lost, busy servers, wrong credentials, nobody there."""

import io
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from fairlead.errors import KeyExists, KeyMissing, StoreError, VersionConflict
from fairlead.store import open_store
from fairlead.store.s3 import S3Store
from fairlead.testing.seaweedfs import S3Server


def answer(code: str, status: int) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "on purpose"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Put"
    )


SILENCE = botocore.exceptions.ReadTimeoutError(endpoint_url="http://s3")
BUSY = answer("SlowDown", 503)


class Bucket:
    """One bucket in memory behind boto3's calls, with a script of what goes wrong.

    `script` is consumed one step per call: None (all is well), an error (raised, nothing done), or ("done", error): the
    call takes effect, and then its answer is lost. Sequential use only; races are tested on a real server.
    """

    def __init__(self, *script: Any) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str], str]] = {}
        self.script = list(script)
        self.calls = 0

    def _call(self, effect: Any) -> Any:
        self.calls += 1
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        result = effect()
        if isinstance(step, tuple):
            raise step[1]
        return result

    def put_object(self, Key: str, Body: bytes, Metadata: dict[str, str] | None = None, **condition: str) -> Any:
        def put() -> Any:
            now = self.objects.get(Key)
            if condition.get("IfNoneMatch") and now is not None:
                raise answer("PreconditionFailed", 412)
            if "IfMatch" in condition and (now is None or now[2] != condition["IfMatch"]):
                raise answer("PreconditionFailed", 412)
            self.objects[Key] = (Body, Metadata or {}, f'"{self.calls}"')
            return {"ETag": self.objects[Key][2]}

        return self._call(put)

    def head_object(self, Key: str, **_: str) -> Any:
        def head() -> Any:
            if Key not in self.objects:
                raise answer("404", 404)
            return {"ETag": self.objects[Key][2], "Metadata": self.objects[Key][1]}

        return self._call(head)

    def get_object(self, Key: str, **_: str) -> Any:
        def get() -> Any:
            if Key not in self.objects:
                raise answer("NoSuchKey", 404)
            return {"ETag": self.objects[Key][2], "Body": io.BytesIO(self.objects[Key][0])}

        return self._call(get)

    def delete_object(self, Key: str, **_: str) -> Any:
        return self._call(lambda: self.objects.pop(Key, None))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts take no time here."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)


@pytest.mark.parametrize(
    "fault", [SILENCE, BUSY, answer("InternalError", 500), answer("ConditionalRequestConflict", 409)]
)
def test_a_create_is_tried_again_while_the_server_is_busy_or_silent(fault: Exception) -> None:
    bucket = Bucket(fault, fault)
    assert S3Store("b", client=bucket).create("k", b"v") == '"3"'
    assert bucket.calls == 3


def test_a_create_whose_answer_was_lost_is_known_as_our_own() -> None:
    bucket = Bucket(("done", SILENCE))
    store = S3Store("b", client=bucket)
    version = store.create("k", b"v")
    assert store.read_versioned("k") == (b"v", version)


def test_a_create_that_somebody_else_won_meanwhile_is_a_loss_even_with_equal_content() -> None:
    bucket = Bucket(SILENCE)
    bucket.objects["k"] = (b"v", {"fairlead-write": "somebody else"}, '"theirs"')
    with pytest.raises(KeyExists):
        S3Store("b", client=bucket).create("k", b"v")


def test_a_replace_whose_answer_was_lost_is_done_once() -> None:
    bucket = Bucket()
    store = S3Store("b", client=bucket)
    version = store.create("k", b"1")
    bucket.script = [("done", SILENCE)]
    second = store.replace("k", b"2", version)
    assert store.read_versioned("k") == (b"2", second)
    with pytest.raises(VersionConflict):
        store.replace("k", b"3", version)


def test_a_replace_that_lost_a_race_is_a_conflict_even_when_its_first_try_got_no_answer() -> None:
    bucket = Bucket()
    store = S3Store("b", client=bucket)
    version = store.create("k", b"1")
    bucket.objects["k"] = (b"2", {"fairlead-write": "somebody else"}, '"theirs"')
    bucket.script = [SILENCE]
    with pytest.raises(VersionConflict):
        store.replace("k", b"2", version)
    del bucket.objects["k"]
    bucket.script = [SILENCE]
    with pytest.raises(VersionConflict):
        store.replace("k", b"2", version)


def test_attempts_are_bounded_and_the_end_says_what_to_do() -> None:
    bucket = Bucket(*[SILENCE] * 50)
    with pytest.raises(StoreError, match="does not answer") as caught:
        S3Store("b", client=bucket, attempts=4).read("k")
    assert bucket.calls == 4
    assert "AWS_ENDPOINT_URL" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (answer("NoSuchBucket", 404), "no bucket b"),
        (answer("InvalidAccessKeyId", 403), "refuses these credentials"),
        (answer("SignatureDoesNotMatch", 403), "refuses these credentials"),
        (answer("AccessDenied", 403), "refuses these credentials"),
        (answer("RequestTimeTooSkewed", 403), "refuses these credentials"),
        (answer("InvalidRequest", 400), "refuses k"),
        (botocore.exceptions.NoCredentialsError(), "no credentials"),
        (botocore.exceptions.ParamValidationError(report="x"), "cannot be used"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_repetition_helps_is_told_at_once(fault: Exception, told: str) -> None:
    for method in ("read", "create", "write", "delete", "exists"):
        bucket = Bucket(fault)
        store = S3Store("b", client=bucket)
        with pytest.raises(StoreError, match=told) as caught:
            getattr(store, method)("k", *([b"v"] if method in ("create", "write") else []))
        assert bucket.calls == 1
        assert caught.value.fix


def test_a_read_that_breaks_off_is_read_again() -> None:
    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise botocore.exceptions.ResponseStreamingError(error="reset")

    bucket = Bucket()
    store = S3Store("b", client=bucket)
    store.create("k", b"whole")
    whole = bucket.get_object
    bodies = [{"ETag": '"x"', "Body": Broken()}]
    bucket.get_object = lambda **place: bodies.pop() if bodies else whole(**place)  # type: ignore[method-assign]
    assert store.read("k") == b"whole"


def test_nobody_at_the_endpoint_is_told_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"  # bound but not listening: connections are refused
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-value")
        with pytest.raises(StoreError, match="does not answer") as caught:
            open_store("s3://bucket/x", tmp_path).read("k")
    assert endpoint in (caught.value.where or "")
    assert "hidden-value" not in str(caught.value)


@pytest.mark.s3
def test_a_real_server_tells_wrong_credentials_and_missing_buckets(
    s3_server: S3Server, s3_store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="no bucket nowhere"):
        open_store("s3://nowhere/x", tmp_path).read("k")
    with pytest.raises(StoreError, match="no bucket nowhere"):
        open_store("s3://nowhere/x", tmp_path).list()
    with pytest.raises(KeyMissing):
        open_store(s3_store_uri, tmp_path).read("k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-value")
    with pytest.raises(StoreError, match="refuses these credentials") as caught:
        open_store(s3_store_uri, tmp_path).write("k", b"v")
    assert "hidden-value" not in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    with pytest.raises(StoreError, match="refuses these credentials"):
        open_store(s3_store_uri, tmp_path).list()


@pytest.mark.s3
def test_more_keys_than_one_page_are_all_listed(s3_store_uri: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = open_store(s3_store_uri, tmp_path)
    keys = [f"many/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b""), keys))
    assert store.list("many/") == keys
