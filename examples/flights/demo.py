"""The whole story on real data, told by the ordinary commands: four versions of one model meet live traffic.

Everything happens in a folder of its own (`demo/` at the repository's root unless named), through the `fairlead`
command line, as a person would do it. Each chapter checks that the story came true; the exit code is 0 only then.
"""

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from make_data import write_months  # noqa: E402 (the example's own modules, beside this file)
from story import BIN, Project, StoryBroken, check, say  # noqa: E402

REQUESTS_PER_SECOND = 300
MAX_REQUESTS_TO_ABORT = 40
LIVE_MONTH = 9


class Demo(Project):
    """The project with live traffic."""

    @contextlib.contextmanager
    def traffic(self) -> Iterator[dict[str, Any]]:
        """Live requests while a rollout is open, and their true labels a little later; the result when it ends."""
        result: dict[str, Any] = {}
        output = self.folder / "traffic.json"
        command = [
            BIN / "fairlead", "traffic", "--data", "live/*.parquet", "--rate", str(REQUESTS_PER_SECOND),
            "--while-rollout", "--label-delay", "1s", "-o", "json",
        ]  # fmt: skip
        with output.open("w") as stdout, (self.folder / "traffic.log").open("w") as stderr:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=stdout, stderr=stderr)
            try:
                yield result
                process.wait(timeout=60)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.wait(timeout=30)
        text = output.read_text()
        if not text.strip():
            raise StoryBroken(f"the traffic said nothing: {(self.folder / 'traffic.log').read_text()[-2000:]}")
        result.update(json.loads(text))

    def rollout(self) -> Any:
        """The newest rollout."""
        return self.ask("rollout", "get")


def split(validation: str, test: str, until: str) -> list[str]:
    """The split's dates as overrides."""
    names = {"validation": validation, "test": test, "until": until}
    return [part for name, value in names.items() for part in ("--set", f"data.split.{name}={value}")]


def data_chapter(project: Project) -> None:
    """Raw files to July, September as live traffic, and the upstream mistake's extract."""
    say("Raw data", "flights from New York in 2013, with weather and planes; a Parquet file a month")
    for path in write_months(project.folder / "data", range(1, 8)):
        print(f"        {path.name}  {pq.read_metadata(path).num_rows:,} rows")
    (live,) = write_months(project.folder / "live", range(LIVE_MONTH, LIVE_MONTH + 1))
    print(f"        {live.name}  {pq.read_metadata(live).num_rows:,} rows, kept apart: the live month")
    shutil.copyfile(HERE / "fairlead.yaml", project.folder / "fairlead.yaml")


def version_1(project: Project) -> None:
    """Bootstrap: there is no champion."""
    say("Version 1", "trains to May, validates on June, tests on July; there is no champion yet")
    project.fairlead("run")
    live = project.ask("model", "show", "champion")
    check(live["number"] == 1, "version 1 is champion by the bootstrap rule, recorded as such")


def version_2(project: Demo) -> None:
    """A month later: promoted on evidence."""
    say("Version 2", "a month later: trains to June, validates on July, tests on August")
    write_months(project.folder / "data", range(8, 9))
    with project.traffic() as traffic:
        project.fairlead("run", *split("2013-07-01", "2013-08-01", "2013-09-01"))
    report_traffic(traffic)
    check(project.ask("model", "show", "champion")["number"] == 2, "version 2 was promoted on evidence")
    check(traffic["failed"] == 0, f"no request of {traffic['sent']:,} failed")


def version_3(project: Demo) -> None:
    """An upstream mistake that offline tests cannot see."""
    say("Version 3", "its extract has the schedule in UTC, training and test alike: offline it looks as good")
    write_months(project.folder / "data-utc", range(1, 9), schedule_in="utc")
    with project.traffic() as traffic:
        source = ("--set", "data.source=data-utc/*.parquet")
        project.fairlead("run", *source, *split("2013-07-01", "2013-08-01", "2013-09-01"), ok=(10,))
    report_traffic(traffic)
    rollout = project.rollout()
    project.fairlead("rollout", "why", rollout["id"])
    check(rollout["phase"] == "aborted", "version 3 was rolled back")
    check(rollout["max_weight"] == 0, "it was caught in shadow: it never answered a user")
    reasons = " ".join(decision["sentence"] for decision in rollout["decisions"])
    check("scheduled_at" in reasons, "the check of live features names scheduled_at")
    score = next((m for m in rollout["last_metrics"] if m["metric"] == "shadow_score_difference"), None)
    check(score is not None and score["verdict"] == "FAIL", "the paired score difference exceeds its bound")
    check(traffic["failed"] == 0, f"no request of {traffic['sent']:,} failed")
    check(project.ask("model", "show", "champion")["number"] == 2, "version 2 is still champion")


def version_4(project: Demo) -> None:
    """A real fault in the graph, met without a shadow."""
    say("Version 4", "version 2 re-exported; its graph reads out of range for two carriers; its plan has no shadow")
    champion = project.ask("model", "show", "champion")
    broken = project.folder / "broken-bundle"
    subprocess.run(
        [sys.executable, HERE / "break_graph.py", champion["bundle_folder"], broken, "--carriers", "UA,B6"],
        check=True, stdout=subprocess.DEVNULL, env=project.environment,
    )  # fmt: skip
    project.fairlead("model", "register", str(broken), "--why", "re-export of version 2")
    with project.traffic() as traffic:
        project.fairlead("rollout", "start", "--version", "4", "--set", "deploy.rollout.shadow=off", ok=(10,))
    report_traffic(traffic)
    rollout = project.rollout()
    project.fairlead("rollout", "why", rollout["id"])
    check(rollout["phase"] == "aborted", "version 4 was rolled back")
    requests = rollout["candidate_requests_at_decision"]
    check(requests <= MAX_REQUESTS_TO_ABORT, f"after {requests} of its requests (at most {MAX_REQUESTS_TO_ABORT})")
    check(
        traffic["failed"] == 0, f"no user saw an error in {traffic['sent']:,} requests: the champion answered instead"
    )
    check(project.ask("model", "show", "champion")["number"] == 2, "version 2 is still champion")


def report_traffic(traffic: dict[str, Any]) -> None:
    """What the clients saw."""
    arms = ", ".join(f"{name} {count:,}" for name, count in traffic["by_arm"].items())
    latency = traffic["latency_ms"]
    print(
        f"        clients: {traffic['sent']:,} requests ({arms}), {traffic['failed']} failed, "
        f"p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms; {traffic['labels_sent']:,} labels sent later"
    )


def last_screen(project: Project) -> None:
    """Versions, history, reports."""
    say("What happened")
    project.fairlead("model", "list", "--tree")
    project.fairlead("model", "history")
    print("\n        reports:")
    for path in sorted((project.folder / ".fairlead").glob("runs/*/reports/*.html")):
        print(f"          {path.relative_to(project.folder.parent)}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "demo")
    parser.add_argument("--keep-up", action="store_true", help="leave the servers running at the end")
    arguments = parser.parse_args()
    project = Demo.fresh(arguments.folder)
    try:
        for chapter in (data_chapter, version_1, version_2, version_3, version_4, last_screen):
            chapter(project)
    except StoryBroken as error:
        print(f"\nThe story did not come true: {error}. Look into {project.folder}.", file=sys.stderr)
        return 1
    finally:
        if not arguments.keep_up:
            project.fairlead("down")
    say("Done", f"all of it is in {project.folder}; `fairlead rollout why ID` in there explains any decision")
    return 0


if __name__ == "__main__":
    sys.exit(main())
