"""Environments for the peers, one for each, because they cannot share one with Fairlead or with each other.

    python benchmarks/peer_environments.py FOLDER              # all of them: some 4 GB, some minutes
    python benchmarks/peer_environments.py FOLDER evidently    # one: FOLDER/evidently/bin/python

`make bench-data` and `make planted` make those that they need when they are not there yet. What a peer is pinned
beside is what its own requirements leave out, or leave open to releases that it does not work with. A peer that does
not install or import is told in one line and left out.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

PYTHON = "3.11"
LIMIT_S = 900
# Name on the package index -> (what is imported to see that it works, what is installed).
PEERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "evidently": ("evidently.presets", ("evidently==0.7.23", "pandas<3", "pyarrow")),
    "great-expectations": ("great_expectations", ("great-expectations==1.24.1", "pyarrow")),
    "whylogs": (
        "whylogs.viz.drift.column_drift_algorithms",
        ("whylogs==1.6.4", "ipython", "pybars3", "scipy", "requests", "pandas<3", "pyarrow"),
    ),
    "tensorflow-data-validation": (
        "tensorflow_data_validation",
        ("tensorflow-data-validation==1.16.1", "dill", "setuptools<80"),
    ),
    "deepchecks": (
        "deepchecks.tabular.suites",
        ("deepchecks==0.19.1", "pyarrow<19", "pandas<2.3", "numpy<2", "scikit-learn<1.6", "setuptools<80"),
    ),
}


class PeerMissing(RuntimeError):
    """A peer that cannot be had, in one line."""


def peer_environment(name: str, folder: Path, limit_s: float = LIMIT_S) -> Path:
    """The interpreter of a peer's own environment, made when there is none. Raises PeerMissing with the reason."""
    home = folder.resolve() / name
    python = home / "bin" / "python"
    done = home / ".installed"
    module, wanted = PEERS[name]
    told = " ".join(wanted)
    if done.exists() and done.read_text() == told:
        return python
    imports = [str(python), "-W", "ignore", "-c", f"import pandas, pyarrow, {module}"]
    if home.exists() and not done.exists():  # somebody else made it: it is taken as it is, or left alone
        _step(f"{name} does not import ({home} was not made by this command; remove it)", imports, limit_s)
        return python
    home.mkdir(parents=True, exist_ok=True)
    done.write_text("begun")
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    _step(f"{name} has no environment", [uv, "venv", "-q", "--allow-existing", "-p", PYTHON, str(home)], limit_s)
    _step(f"{name} does not install", [uv, "pip", "install", "-q", "-p", str(python), *wanted], limit_s)
    _step(f"{name} does not import", imports, limit_s)
    done.write_text(told)
    return python


def _step(problem: str, command: list[str], limit_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"{problem}: not done after {limit_s:.0f} s") from None
    except OSError as error:
        raise PeerMissing(f"{problem}: {command[0]}: {error.strerror} (uv comes with `make install`)") from None
    if done.returncode:
        raise PeerMissing(f"{problem}: {_reason(done.stderr) or f'exit code {done.returncode}'}")


def _reason(words: str) -> str:
    """What uv or Python says in the end, in one line: uv's tree without its branches, a traceback's last line."""
    lines = [line.strip(" ×╰─▶├│\t") for line in words.splitlines() if line.strip()]
    kept = lines[-1:] if any(line.startswith("Traceback") for line in lines) else lines[:2]
    return "; ".join(kept)[:300]


def peer_environments(names: Iterable[str], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """(interpreters by peer, why the others cannot be had by peer); one after the other, each told when it is there."""
    pythons: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in names:
        began = time.monotonic()
        try:
            pythons[name] = peer_environment(name, folder)
            print(f"{name}: {pythons[name]} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        except PeerMissing as error:
            missing[name] = str(error)
            print(error, file=sys.stderr, flush=True)
    return pythons, missing


def main() -> int:
    """Make them; exit code 1 when one is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="each gets a folder of its name below this one")
    parser.add_argument("names", nargs="*", help="which (default: all)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; one of {', '.join(PEERS)}")
    _, missing = peer_environments(options.names or PEERS, options.folder)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
