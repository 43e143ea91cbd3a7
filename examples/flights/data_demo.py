"""What the data commands say of real flights: leaks, a season, three mistaken extracts, a profile (`make demo-data`).

Everything happens in a folder of its own (`demo-data/` at the repository's root unless named), through the `fairlead`
command line. Each chapter checks that what was done is named, and nothing else; the exit code is 0 only then.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from make_data import write_months  # noqa: E402 (the example's own modules, beside this file)
from story import Project, StoryBroken, check, say  # noqa: E402

LEAKS = ("dep_delay", "dep_time", "arr_time", "air_time")
NUMERIC = ("distance", "temp", "dewp", "humid", "wind_speed", "pressure", "visib")
WITH_LEAKS = ("--set", f"features.numeric=[{', '.join((*NUMERIC, *LEAKS))}]")
JANUARY = ("data", "drift", "--reference", "2013-01")
REFUSED = 3


def raw_data(project: Project) -> None:
    """A Parquet file a month."""
    say("Raw data", "flights from New York in 2013, with weather and planes; a Parquet file a month")
    paths = write_months(project.folder / "data", range(1, 13))
    print(f"        {len(paths)} files, {sum(pq.read_metadata(path).num_rows for path in paths):,} rows")
    shutil.copyfile(HERE / "fairlead.yaml", project.folder / "fairlead.yaml")


def leaks(project: Project) -> None:
    """Four columns that every airline's extract has, and that nobody knows when the schedule is known."""
    say("Leaks", f"somebody adds {', '.join(LEAKS)} to the features")
    project.fairlead("data", "split", *WITH_LEAKS, ok=(REFUSED,))
    error = project.ask("data", "split", *WITH_LEAKS, ok=(REFUSED,))["error"]
    named = set(error["what"].split(": ", 1)[1].split(", "))
    check(named == set(LEAKS), "the four are refused, and nothing else is")
    project.fairlead("data", "split")
    check(True, "without them the data are split, and no feature is accused")


def season(project: Project) -> None:
    """September against January, ranked by what the model would feel."""
    say("A season", "September against January, ranked by importance in a model times distance")
    one_process = ("--set", "train.workers=1", "--set", "train.epochs=1", "--set", "train.retraining_noise=false")
    project.fairlead("run", "--to", "register", *one_process, "--set", "evaluate.gates=[{metric: auc, min: 0.6}]")
    project.fairlead("model", "promote", "1", "--why", "to rank by its answers")
    project.fairlead(*JANUARY, "--live", "2013-09")
    drift = project.ask(*JANUARY, "--live", "2013-09")
    impacts = [column["impact"] for column in drift["columns"] if column["impact"] is not None]
    moved = [column["column"] for column in drift["columns"] if column["moved"]]
    check(impacts == sorted(impacts, reverse=True), "columns are ranked by their impact on the champion's answer")
    check({"temp", "dewp"} <= set(moved), "temperature and dew point moved")
    check(not blamed(drift), "and nothing is said to have been done to a column: it is a season")


def blamed(drift: Any) -> dict[str, str]:
    """Column -> what was done to it. More missing values are told, but blame nobody: calm weather records no gusts."""
    return {c["column"]: c["cause"] for c in drift["columns"] if c["cause"] and c["cause_kind"] != "missing"}


def changed(project: Project, name: str, column: str, change: Callable[[Any], Any]) -> None:
    """The extract of September with one column changed, as `NAME/*.parquet`."""
    table = pq.read_table(project.folder / "data" / "flights-2013-09.parquet")
    index = table.column_names.index(column)
    (project.folder / name).mkdir()
    pq.write_table(table.set_column(index, column, change(table[column])), project.folder / name / "september.parquet")


def extracts(project: Project) -> None:
    """Three mistakes upstream; every value stays in its range."""
    say("Mistaken extracts", "September again, with one thing done to it upstream, against January")
    changed(project, "celsius", "temp", lambda f: pc.divide(pc.subtract(f, 32.0), 1.8))
    changed(project, "kilometres", "distance", lambda miles: pc.multiply(miles, 1.609344))
    write_months(project.folder / "utc", range(9, 10), schedule_in="utc")
    expected = {
        "celsius": ("temp", "Celsius and Fahrenheit"),
        "kilometres": ("distance", "kilometres and miles"),
        "utc": ("scheduled_at", "as UTC is to a clock"),
    }
    for name, (column, text) in expected.items():
        # All of its rows: in UTC the last ones lie in October.
        causes = blamed(project.ask(*JANUARY, "--live", "all", "--live-data", f"{name}/*.parquet"))
        for place, cause in causes.items():
            print(f"        {name}: {place}: {cause}")
        check(set(causes) == {column} and text in causes[column], f"{name}: named as what it is, and nothing else is")


def profile(project: Project) -> None:
    """Two sets side by side on one page."""
    say("Profile", "the year beside the September in °C: one page that needs no network")
    page = project.folder / "profile.html"
    project.fairlead("data", "profile", "--against", "celsius/*.parquet", "--html", str(page))
    check(page.stat().st_size <= 300_000, f"{page.name} has {page.stat().st_size / 1000:.0f} kB (at most 300)")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "demo-data")
    project = Project.fresh(parser.parse_args().folder)
    try:
        for chapter in (raw_data, leaks, season, extracts, profile):
            chapter(project)
    except StoryBroken as error:
        print(f"\nThe story did not come true: {error}. Look into {project.folder}.", file=sys.stderr)
        return 1
    finally:
        project.fairlead("down")
    say("Done", f"all of it is in {project.folder}; profile.html and .fairlead/runs/*/reports/*.html are for reading")
    return 0


if __name__ == "__main__":
    sys.exit(main())
