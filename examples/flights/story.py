"""What the stories of this folder share: chapters with checks, told through the `fairlead` command line."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

BIN = Path(sys.executable).parent
STARTED = time.monotonic()


class StoryBroken(Exception):
    """A chapter did not end as it has to."""


def say(title: str, text: str = "") -> None:
    """A heading, with the time since the start."""
    print(f"\n\033[1m[{time.monotonic() - STARTED:5.0f} s] {title}\033[0m" if sys.stdout.isatty() else
          f"\n[{time.monotonic() - STARTED:5.0f} s] {title}", flush=True)  # fmt: skip
    if text:
        print("        " + text, flush=True)


def check(condition: bool, what: str) -> None:
    """One sentence of the story, and whether it came true."""
    print(f"        {'ok  ' if condition else 'NOT '} {what}", flush=True)
    if not condition:
        raise StoryBroken(what)


class Project:
    """The project folder and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}

    def fairlead(self, *arguments: str, ok: tuple[int, ...] = (0,)) -> int:
        """Run a command and show it; the exit code must be one of `ok`."""
        print(f"      $ fairlead {' '.join(arguments)}", flush=True)
        done = subprocess.run([BIN / "fairlead", *arguments], cwd=self.folder, env=self.environment, check=False)
        if done.returncode not in ok:
            raise StoryBroken(f"fairlead {arguments[0]} ended with exit code {done.returncode}")
        return done.returncode

    def ask(self, *arguments: str, ok: tuple[int, ...] = (0,)) -> Any:
        """Run a command with -o json and return what it prints; the exit code must be one of `ok`."""
        done = subprocess.run(
            [BIN / "fairlead", *arguments, "-o", "json"],
            cwd=self.folder, env=self.environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode not in ok:
            raise StoryBroken(f"fairlead {' '.join(arguments)} ended with exit code {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    @classmethod
    def fresh(cls, folder: Path) -> Self:
        """An empty folder in the place of one that an earlier story left; its servers are stopped first."""
        project = cls(folder.resolve())
        if project.folder.exists():
            if (project.folder / "fairlead.yaml").exists():
                project.fairlead("down")
            shutil.rmtree(project.folder)
        project.folder.mkdir(parents=True)
        return project
