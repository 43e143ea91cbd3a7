"""What an ingress and its candidate say to each other over a stream socket. Bytes in, bytes out; no I/O.

    frame  =  length u32, call u32, body          little-endian; `length` counts call and body
    call   =  seconds f32, head length u32, head, blocks
    reply  =  seconds f32, answers

`head` is JSON: per item its rows, per row the scalar values. Blocks (images and the like) follow as raw float32, row by
row in the order of the signature, because text is ten times their size. `seconds` is what a call may take, or what it
took. `answers` is JSON: per item [scores, labels], or a sentence why there is none.

A handle of Ray Serve does the same for 1 to 2 ms of CPU in the caller; this takes some 30 microseconds.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.records.model import Signature
from fairlead.serve.model import Answer, Item

_FRAME = struct.Struct("<II")
_CALL = struct.Struct("<fI")
_SECONDS = struct.Struct("<f")

_REPLY_BYTES = 65_536
_SCORE_BYTES = 32
_LABEL_BYTES = 512


class FrameTooLarge(Exception):
    """The other side announced more than it may send."""


class GarbledFrame(Exception):
    """The other side sent what is no call or no reply."""


class Frames:
    """Cuts a stream into frames."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of a frame at most; larger ones are refused when they are announced, before they arrive."""
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole frames as (call, body). Raises FrameTooLarge, GarbledFrame."""
        buffer = self._buffer
        if not buffer and len(data) >= _FRAME.size + 4:
            length, call = _FRAME.unpack_from(data)
            if len(data) == 4 + length and length <= self.limit:  # mostly: one frame, and all of it
                yield call, data[_FRAME.size :]
                return
        buffer += data
        start = 0
        while len(buffer) - start >= _FRAME.size:
            length, call = _FRAME.unpack_from(buffer, start)
            if length > self.limit:
                raise FrameTooLarge(f"{length} bytes announced, {self.limit} allowed")
            if length < 4:
                raise GarbledFrame("a frame without a call")
            end = start + 4 + length
            if len(buffer) < end:
                break
            yield call, bytes(buffer[start + _FRAME.size : end])
            start = end
        del buffer[:start]


def _frame(call: int, body: bytes) -> bytes:
    return _FRAME.pack(4 + len(body), call) + body


def block_fields(signature: Signature) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The names and shapes of the inputs that travel as raw bytes."""
    return tuple((field.name, tuple(field.shape)) for field in signature.inputs if field.shape)


def encode_call(
    call: int, seconds: float, items: Sequence[Item], blocks: tuple[tuple[str, tuple[int, ...]], ...] = ()
) -> bytes:
    """A frame that asks for answers to `items` within `seconds`."""
    if not blocks:
        head = orjson.dumps(items)
        return _frame(call, _CALL.pack(seconds, len(head)) + head)
    names = {name for name, _ in blocks}
    scalars = [[{name: row[name] for name in row if name not in names} for row in item] for item in items]
    parts = [np.asarray(row[name], np.float32).tobytes() for item in items for row in item for name, _ in blocks]
    head = orjson.dumps(scalars)
    return _frame(call, b"".join((_CALL.pack(seconds, len(head)), head, *parts)))


def decode_call(body: bytes, blocks: tuple[tuple[str, tuple[int, ...]], ...] = ()) -> tuple[float, list[Item]]:
    """The seconds that the call may take, and its items. Raises GarbledFrame."""
    try:
        seconds, size = _CALL.unpack_from(body)
        head = body[_CALL.size : _CALL.size + size]
        items: list[Item] = orjson.loads(head)
        offset = _CALL.size + size
        if blocks:
            for item in items:
                for row in item:
                    for name, shape in blocks:
                        count = int(np.prod(shape))
                        row[name] = np.frombuffer(body, np.float32, count, offset).reshape(shape)
                        offset += 4 * count
    except (struct.error, ValueError, TypeError) as error:
        raise GarbledFrame(f"no call: {error}") from error
    if offset != len(body):
        raise GarbledFrame("bytes left behind a call")
    return seconds, items


def encode_reply(call: int, seconds: float, answers: Sequence[Answer | FairleadError]) -> bytes:
    """The frame that answers `call`."""
    content = [[a.scores, a.labels] if isinstance(a, Answer) else str(a.why or a.what)[:500] for a in answers]
    return _frame(call, _SECONDS.pack(seconds) + orjson.dumps(content))


def decode_reply(body: bytes) -> list[Answer | FairleadError]:
    """The answers; each knows how long the candidate took. Whether they fit the request is for the caller to see.
    Raises GarbledFrame."""
    try:
        (seconds,) = _SECONDS.unpack_from(body)
        content = orjson.loads(body[_SECONDS.size :])
        if type(content) is not list or not seconds >= 0:
            raise ValueError("no list of answers")
        answers: list[Answer | FairleadError] = []
        for entry in content:
            if type(entry) is str:
                answers.append(PredictionFailed(entry))
            else:
                scores, labels = entry
                answers.append(Answer(scores, labels, seconds))
    except (struct.error, ValueError, TypeError) as error:
        raise GarbledFrame(f"no reply: {error}") from error
    return answers


def reply_limit(rows: int, classes: int) -> int:
    """The largest reply that `rows` rows of a model with `classes` classes can need, in bytes."""
    return _REPLY_BYTES + rows * (_LABEL_BYTES + _SCORE_BYTES * max(1, classes))
