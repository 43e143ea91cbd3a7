"""``python -m hostile.large FOLDER``: the large cases in a process of its own, whose memory is looked at.

Prints one JSON line a case: its name, what differs from what must come of it, the outcome, and the highest memory of
the process so far in MiB. The first line is a small file: the memory of all that is imported.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from hostile.cases import SCHEMA, Case, Used, clean_rows, csv_text, text_file
from hostile.large_cases import cases
from hostile.running import Seen, differences, look


def main() -> int:
    """All large cases."""
    place = Path(sys.argv[1]) / "case"
    for case in (small(), *cases()):
        place.mkdir(parents=True)
        # The files are written by another process: making them takes memory as well.
        made = subprocess.run([sys.executable, "-m", "hostile.large_write", case.name, str(place)], check=False)
        assert made.returncode == 0, case.name
        if case.known:
            (place / "schema.yaml").write_text(SCHEMA)
        seen = look(case, place, keep=False)
        found = differences(case, seen, place)
        print(
            json.dumps({"name": case.name, "differences": found, "said": _said(seen), "peak_mib": _peak_mib()}),
            flush=True,
        )
        shutil.rmtree(place)
    return 0


def _peak_mib() -> int:
    # Not getrusage: what that says begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def small() -> Case:
    """One that needs no memory to speak of."""
    return Case("", "small", "rows.csv", text_file("rows.csv", csv_text(clean_rows())), Used())


def _said(seen: Seen) -> str:
    if seen.error is not None:
        return str(seen.error)
    return "quarantined" if seen.quarantined else "used"


if __name__ == "__main__":
    sys.exit(main())
