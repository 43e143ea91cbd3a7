"""What a key may look like.

A key is read once, here, and never decoded, normalised or joined in any other way afterwards: the same string means
the same object in a folder and in a bucket. The alphabet is small on purpose. What it leaves out (`..`, backslash, NUL,
`%`, `#`, `?`, blanks, letters that look like others) is what reads as one place here and as another one there.
"""

import re

from fairlead.errors import KeyRefused

MAX_KEY_BYTES = 900
MAX_SEGMENT_BYTES = 200

_SEGMENT = re.compile(r"[A-Za-z0-9_=@+][A-Za-z0-9._=@+,-]*\Z")
_RULE = (
    "Use letters, digits and . _ = @ + , - in parts separated by single slashes; no part begins with a dot or a dash."
)


def check_key(key: str) -> str:
    """Give `key` back when it is usable, raise KeyRefused otherwise."""
    if not isinstance(key, str) or not key:
        raise KeyRefused(f"a key must be a non-empty string, not {key!r}", fix=_RULE)
    if len(key) > MAX_KEY_BYTES:
        raise KeyRefused(f"a key of {len(key)} characters is too long", where=key[:80], fix=f"At most {MAX_KEY_BYTES}.")
    for segment in key.split("/"):
        if not _SEGMENT.match(segment):
            raise KeyRefused(
                f"the key {key[:200]!r} is not usable", why=f"its part {segment[:80]!r} is not allowed", fix=_RULE
            )
        if len(segment) > MAX_SEGMENT_BYTES:
            raise KeyRefused(
                f"a part of the key {key[:200]!r} is too long", fix=f"At most {MAX_SEGMENT_BYTES} characters per part."
            )
    return key


def check_prefix(prefix: str) -> str:
    """Give `prefix` back when keys could start with it ("" always), raise KeyRefused otherwise."""
    if prefix == "":
        return prefix
    check_key(prefix.removesuffix("/"))
    return prefix
