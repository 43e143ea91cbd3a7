"""Bytes under keys, with conditional writes: a folder or an S3 bucket behind one Protocol.

Here live: what a key may look like (`keys`), the Protocol (`protocol`), the two stores (`folder`, `s3`; the latter is
the only home of boto3) and the way from a URI to a store (`opening`). Never here: what the bytes mean.
"""

from fairlead.store.opening import open_store
from fairlead.store.protocol import Store

__all__ = ["Store", "open_store"]
