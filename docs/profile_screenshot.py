"""Draws docs/profile-flights.png: parts of the flights' profile, as a headless Chromium shows them.

    python docs/profile_screenshot.py             # needs chromium or google-chrome

The rows are those that `examples/flights/make_data.py` writes, January to September.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fairlead.data.profile import ProfileOptions, profile_data
from fairlead.data.profile_report import profile_report
from fairlead.reports.html import render_html
from fairlead.reports.model import Card, Report, Section
from fairlead.spec.load import load_project

ROOT = Path(__file__).resolve().parents[1]
FLIGHTS = ROOT / "examples" / "flights"
PICTURE = ROOT / "docs" / "profile-flights.png"
CARDS = ("carrier", "temp", "dep_delay")


def shown(report: Report) -> Report:
    """The overview, the ribbon of drift, and a few cards: what fits into a picture."""
    sections = []
    for section in report.sections:
        if section.title in ("Overview", "Drift by month"):
            sections.append(section)
        if section.title == "Distributions":
            cards = [block for block in section.blocks if isinstance(block, Card) and block.title in CARDS]
            sections.append(Section(section.title, cards))
    return Report(report.title, report.subtitle, sections)


def main() -> None:
    """Write the picture."""
    browser = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("there is no chromium and no google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        shutil.copy(FLIGHTS / "fairlead.yaml", base)
        make = [sys.executable, str(FLIGHTS / "make_data.py"), str(base / "data"), "--months", "1-9"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        profile = profile_data(load_project(base / "fairlead.yaml").project, base, ProfileOptions(cache=False))
        page = base / "profile.html"
        page.write_text(render_html(shown(profile_report(profile))), encoding="utf-8")
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = ["--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={base / 'browser'}", *sandbox]
        words = [browser, *options, "--window-size=1000,2560", f"--screenshot={PICTURE}", page.as_uri()]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
