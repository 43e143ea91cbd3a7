"""What doctor's pod runs on the cluster: a round trip through the store, told as one JSON line.

python -m fairlead.wiring.doctor_pod s3://bucket/prefix
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from fairlead.errors import FairleadError
from fairlead.store import open_store
from fairlead.wiring.doctor import Finding, store_finding


def main(arguments: list[str]) -> int:
    """Always 0: the finding says how it went."""
    try:
        finding = store_finding(open_store(arguments[0], Path.cwd()))
    except FairleadError as error:
        finding = Finding("store", "problem", error.what, error.fix)
    print(json.dumps(asdict(finding)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
