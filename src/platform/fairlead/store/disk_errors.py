"""What the operating system says about files, in Fairlead's words."""

import errno

from fairlead.atomic import DISK_FULL
from fairlead.errors import FairleadError, NotEnoughDisk, StoreError


def explain_os_error(error: OSError, key: str, uri: str) -> FairleadError:
    """The error to raise for `error`, met while the store at `uri` worked on `key`."""
    if error.errno in DISK_FULL:
        return NotEnoughDisk(
            "the disk is full", where=f"{uri}, key {key}", why=str(error), fix="Free space; nothing was changed."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = "Give this user the right to read and write the folder, or name another store."
    elif error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        fix = "A key cannot be an object and a folder of others at once: choose another key."
    else:
        fix = "Check the folder and its disk."
    return StoreError(
        f"the store cannot use {key or 'its folder'}", where=uri, why=f"{type(error).__name__}: {error}", fix=fix
    )
