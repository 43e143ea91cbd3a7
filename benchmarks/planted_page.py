"""docs/planted.md from the outcomes."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

Outcome = dict[str, Any]
# A data set is two windows and a training table. Stated: one of a thousand for the leak scan, one of a thousand for the
# distances (watch.skew.false_alarm), and eight for rules of the inferred schema that a later window may break.
STATED = 0.01
HEAD = """# Planted anomalies, leaks, skew and drift

Written by `make planted` (`make planted ARGS="--no-peers --seeds 1 --clean 20"` is a short form; it installs the
peers below .fairlead/bench-peers when they are not there, benchmarks/peer_environments.py says which releases). A
generator makes two windows of one process, and a table to train on, with one thing wrong at a known place
(benchmarks/planted_worlds.py, planted_leaks.py): {cases} variants of {kinds} kinds, {seeds} seeds each, some 4,000
rows, 16 to 22 columns. *Found*: the tool says something about that place. Fairlead infers its schema from the
reference window (and is told that the row's number is unique); all other settings are the defaults. These sets helped
to make both sides what they are: after first results the generator's link between columns was made stronger, its
concept drift wider, row numbers continue from one window to the next, and the leak scan's bound of "written by the
outcome" went from 95 to 90 %. The peers have their defaults; for Great Expectations, which has no rules of its own,
and the thresholds of TensorFlow Data Validation see benchmarks/planted_peers.py.

**Fairlead finds {found} of {kinds} kinds in all seeds** ({some} more in some of them). Of {clean} clean sets it accuses
{accused}, {severe} of them so that training is refused; stated are {stated:.1%} of clean sets, so at most {allowed}
(the 99.9 % quantile of the binomial distribution).
"""


def page(
    results: Mapping[str, Sequence[Outcome]],
    notes: Mapping[str, str],
    windows: Mapping[str, Any],
    leaks: Mapping[str, Any],
    variants: Sequence[str],
    seeds: int,
    num_clean: int,
) -> tuple[str, dict[str, Any]]:
    """(Markdown, the same as facts)."""
    mine = results["fairlead"]
    kinds = [*((kind, facts[0]) for kind, facts in windows.items()), *((kind, "leak") for kind in leaks)]
    shares = {kind: _share(mine, kind) for kind, _ in kinds}
    own = [kind for kind, _ in kinds if kind not in variants]
    found = sum(shares[kind] == 1 for kind in own)
    some = sum(0 < shares[kind] < 1 for kind in own)
    accused_seeds = {o["seed"] for o in mine if o["family"] == "clean" and o["others"]}
    severe = sum(bool(o.get("refused")) for o in mine if o["family"] == "clean")
    allowed = int(stats.binom.ppf(0.999, num_clean, STATED))
    facts: dict[str, Any] = {
        "kinds": len(own),
        "kinds_found": found,
        "kinds_found_in_some": some,
        "missed": [kind for kind, _ in kinds if shares[kind] < 1],
        "clean_sets": num_clean,
        "clean_accused": len(accused_seeds),
        "clean_refused": severe,
        "clean_allowed": allowed,
        "stated_rate": STATED,
        "accusations_of_clean_sets": _accusations(mine),
        "tools": {tool: _summary(outcomes, own, num_clean) for tool, outcomes in results.items()},
        "notes": dict(notes),
    }
    text = HEAD.format(
        cases=len(kinds), kinds=len(own), seeds=seeds, found=found, some=some, clean=num_clean,
        accused=len(accused_seeds), severe=severe, stated=STATED, allowed=allowed,
    )  # fmt: skip
    return text + _tools(facts) + _kinds(results, kinds, shares) + _falsely(facts), facts


def _share(outcomes: Sequence[Outcome], kind: str) -> float:
    of_kind = [o["found"] for o in outcomes if o["kind"] == kind]
    return sum(of_kind) / len(of_kind) if of_kind else 0.0


def _summary(outcomes: Sequence[Outcome], own: Sequence[str], num_clean: int) -> dict[str, Any]:
    planted = [o for o in outcomes if o["family"] != "clean"]
    clean = {o["seed"] for o in outcomes if o["family"] == "clean"}
    accused = {o["seed"] for o in outcomes if o["family"] == "clean" and o["others"]}
    return {
        "kinds_found": sum(_share(outcomes, kind) == 1 for kind in own),
        "sets": len(planted),
        "sets_found": sum(o["found"] for o in planted),
        "sets_with_other_columns_accused": sum(bool(o["others"]) for o in planted),
        "clean_sets": len(clean),
        "clean_accused": len(accused),
    }


def _tools(facts: Mapping[str, Any]) -> str:
    lines = [
        "",
        "| tool | kinds found | planted sets found | planted sets with other columns accused | clean sets accused | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for tool, note in facts["notes"].items():
        one = facts["tools"].get(tool)
        if not one or not one["sets"]:
            lines.append(f"| {tool} | | | | | {note} |")
            continue
        lines.append(
            f"| {tool} | {one['kinds_found']} of {facts['kinds']} | {one['sets_found']} of {one['sets']} "
            f"| {one['sets_with_other_columns_accused']} | {one['clean_accused']} of {one['clean_sets']} | {note} |"
        )
    return "\n".join(lines) + "\n"


def _kinds(
    results: Mapping[str, Sequence[Outcome]], kinds: Sequence[tuple[str, str]], shares: Mapping[str, float]
) -> str:
    peers = [tool for tool in results if tool != "fairlead"]
    lines = [
        "",
        "## Kind by kind",
        "",
        "Share of the sets in which the place is named; what Fairlead says of it; a dash where a tool did not run.",
        "",
        f"| kind | family | Fairlead | {''.join(f'{peer} | ' for peer in peers)}what Fairlead says |",
        f"|---|---|---:|{'---:|' * len(peers)}---|",
    ]
    for kind, family in kinds:
        said = next((o["said"] for o in results["fairlead"] if o["kind"] == kind and o["found"]), "")
        cells = []
        for peer in peers:
            ran = [o for o in results[peer] if o["kind"] == kind]
            cells.append(f"{_share(results[peer], kind):.0%} | " if ran else "- | ")
        words = said.replace("|", "/").replace("\n", " ")[:140]
        lines.append(f"| {kind} | {family} | {shares[kind]:.0%} | {''.join(cells)}{words} |")
    return "\n".join(lines) + "\n"


def _accusations(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"{o['setting']}, seed {o['seed']}: {place}: {text[:120]}"
        for o in outcomes
        if o["family"] == "clean"
        for place, text in o["others"].items()
    ]


def _falsely(facts: Mapping[str, Any]) -> str:
    lines = ["", "## Clean sets that Fairlead accuses", ""]
    lines += [f"- {text}" for text in facts["accusations_of_clean_sets"][:20]] or ["None."]
    if facts["missed"]:
        lines += ["", f"Not found in every seed: {', '.join(facts['missed'])}."]
    return "\n".join(lines) + "\n"
