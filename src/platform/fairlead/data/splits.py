"""Which side of a split each row is on.

By time the past trains and the future tests; rows of one instant stay together. An embargo leaves out the rows just
before each later side, whose labels or features may reach into it (Lopez de Prado 2018, "Advances in Financial Machine
Learning", chapter 7). By group a hash of the entity decides alone, so that an entity keeps its side in every later
version of the data. Random and stratified splits order the rows by a seeded hash of their content and cut at the exact
shares (of each class, when stratified); rows equal in all columns stay on one side.

Two combinations: time+group cuts by time and leaves out of a later side the rows of entities that an earlier side has;
group+stratified orders whole entities, apart for each class that is most frequent among their rows (for amounts: each
fifth of their mean), and cuts each at the shares of the rows.

`families` are rows that belong together for another reason (near duplicates): they get one side; by time, which cannot
be chosen, those of a family that an earlier side has are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fairlead.errors import SplitTooSmall
from fairlead.features.hashing import mix
from fairlead.records.data import SPLITS
from fairlead.spec.data import Split

LEFT_OUT = -1
MIN_ROWS = {"train": 20, "validation": 5, "test": 5}
_REGRESSION_STRATA = 10
_GROUP_STRATA = 5


@dataclass(frozen=True)
class Keys:
    """What splits look at, each [N]: `times` datetime64[us], `groups` and `rows` uint64 hashes, `labels` codes,
    `families` int64: equal numbers belong together."""

    num_rows: int
    labels: np.ndarray
    times: np.ndarray | None = None
    groups: np.ndarray | None = None
    rows: np.ndarray | None = None
    families: np.ndarray | None = None


def assign(spec: Split, keys: Keys) -> tuple[np.ndarray, dict[str, str]]:
    """(side of each row, int8 [N]: index into SPLITS or LEFT_OUT; the facts of the split)."""
    if spec.in_time:
        sides, facts = _by_time(spec, keys)
        if spec.by == "time+group":
            sides = _earlier_only(sides, _present(keys.groups, "groups"))
        return (sides if keys.families is None else _earlier_only(sides, keys.families)), facts
    shares = {"validation": float(spec.validation), "test": float(spec.test)}  # type: ignore[arg-type]
    facts = {name: f"{share:g}" for name, share in shares.items()} | {"seed": str(spec.seed)}
    train = 1 - sum(shares.values())
    cuts = np.array([train, train + shares["validation"]])
    if spec.by == "group":
        groups = _one_of_family(_present(keys.groups, "groups"), keys.families)
        position = mix(groups, spec.seed).astype(np.float64) / 2.0**64
        return _side(position, cuts), facts
    if spec.by == "group+stratified":
        rows = _one_of_family(_present(keys.groups, "groups"), keys.families)
        strata = _strata_of_groups(rows, keys.labels)
    else:
        rows = _one_of_family(_present(keys.rows, "rows"), keys.families)
        strata = np.zeros(keys.num_rows, np.int64)
        if spec.by == "stratified":
            strata = keys.labels if keys.labels.dtype.kind == "i" else _quantile_bins(keys.labels)
    sides = np.zeros(keys.num_rows, np.int8)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        sides[members] = _side(_positions(rows[members], spec.seed), cuts)
    if spec.by == "stratified" and keys.families is not None:
        # A family may have rows of several classes; its first row's stratum decides.
        sides = sides[_first_of(keys.families)]
    return sides, facts


def keep_first(rows: np.ndarray) -> np.ndarray:
    """Which rows to keep so that of equal ones only the first stays: bool [N]."""
    kept = np.zeros(len(rows), bool)
    kept[np.unique(rows, return_index=True)[1]] = True
    return kept


def _by_time(spec: Split, keys: Keys) -> tuple[np.ndarray, dict[str, str]]:
    times = _present(keys.times, "times")
    limit = None if spec.until is None else np.datetime64(_naive(spec.until), "us")
    inside = np.ones(keys.num_rows, bool) if limit is None else times < limit
    if isinstance(spec.validation, datetime) and isinstance(spec.test, datetime):
        begin = [np.datetime64(_naive(spec.validation), "us"), np.datetime64(_naive(spec.test), "us")]
    else:
        ordered = np.sort(times[inside])
        if not len(ordered):
            return np.full(keys.num_rows, LEFT_OUT, np.int8), {}
        test = 1 - float(spec.test)  # type: ignore[arg-type]
        validation = test - float(spec.validation)  # type: ignore[arg-type]
        # Rounded first, since 1 - 0.2 - 0.2 is a little less than 0.6.
        begin = [ordered[min(int(round(s * len(ordered), 6)), len(ordered) - 1)] for s in (validation, test)]
    sides = (times >= begin[0]).astype(np.int8) + (times >= begin[1]).astype(np.int8)
    if spec.embargo:
        gap = np.timedelta64(round(spec.embargo * 1e6), "us")
        for start in begin:
            sides[(times >= start - gap) & (times < start)] = LEFT_OUT
    sides[~inside] = LEFT_OUT
    facts = {"validation": _iso(begin[0]), "test": _iso(begin[1])}
    if limit is not None:
        facts["until"] = _iso(limit)
    if spec.embargo:
        facts["embargo"] = f"{spec.embargo:g} s"
    return sides, facts


def _earlier_only(sides: np.ndarray, belongs: np.ndarray) -> np.ndarray:
    """Leave out of each side the rows that belong to what an earlier side has."""
    result = sides.copy()
    for side in (1, 2):
        earlier = np.unique(belongs[(result >= 0) & (result < side)])
        result[(result == side) & np.isin(belongs, earlier)] = LEFT_OUT
    return result


def _one_of_family(hashes: np.ndarray, families: np.ndarray | None) -> np.ndarray:
    """The smallest hash of all rows that belong together by family or by equal hash, for each of them."""
    if families is None:
        return hashes
    return merged(hashes, families)


def merged(hashes: np.ndarray, families: np.ndarray) -> np.ndarray:
    """uint64 [N]: the smallest hash of the rows that are linked by equal hashes or equal families, over any number of
    links (connected components)."""
    _, by_hash = np.unique(hashes, return_inverse=True)
    _, by_family = np.unique(families, return_inverse=True)
    size = int(by_hash.max(initial=-1)) + 1
    links = coo_array(
        (np.ones(len(hashes), np.int8), (by_hash, size + by_family)),
        shape=(size + int(by_family.max(initial=-1)) + 1,) * 2,
    )
    component = connected_components(links, directed=False)[1][by_hash]
    smallest = np.full(int(component.max(initial=-1)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, component, hashes)
    return np.asarray(smallest[component])


def _first_of(belongs: np.ndarray) -> np.ndarray:
    """For each row the place of the first one that it belongs with."""
    _, first, inverse = np.unique(belongs, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def _strata_of_groups(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The stratum of each row's group: its most frequent class, or the fifth of the groups' mean amounts."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if labels.dtype.kind != "i":
        means = np.bincount(inverse, labels) / counts
        edges = np.unique(np.quantile(means, np.linspace(0, 1, _GROUP_STRATA + 1)[1:-1]))
        return np.asarray(np.searchsorted(edges, means, side="right")[inverse])
    table = coo_array((np.ones(len(labels)), (inverse, labels))).tocsr()
    return np.asarray(table.argmax(axis=1)).reshape(-1)[inverse]


def _positions(rows: np.ndarray, seed: int) -> np.ndarray:
    """Where each row stands in the seeded order, between 0 and 1; equal rows stand in the middle of their own."""
    _, inverse, counts = np.unique(mix(rows, seed), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = (ends - counts / 2) / len(rows)
    return np.asarray(middle[inverse])


def _side(position: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    # A little below the cut, because 0.6 + 0.2 is not quite 0.8.
    return np.searchsorted(cuts - 1e-9, position, side="right").astype(np.int8)


def _quantile_bins(values: np.ndarray) -> np.ndarray:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _REGRESSION_STRATA + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _present(values: np.ndarray | None, name: str) -> np.ndarray:
    if values is None:
        raise ValueError(f"this split needs {name}")
    return values


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _iso(instant: np.datetime64) -> str:
    moment: datetime = instant.astype("datetime64[us]").astype(datetime)
    return moment.replace(tzinfo=UTC).isoformat()


def check_sizes(
    sides: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], facts: Mapping[str, str], by: str
) -> None:
    """Raises SplitTooSmall when a side has too few rows to train or judge on, or lacks a class."""
    problems = []
    for index, name in enumerate(SPLITS):
        members = labels[sides == index]
        if len(members) < MIN_ROWS[name]:
            problems.append(f"{name} has {len(members)} rows, at least {MIN_ROWS[name]} are needed")
            continue
        if classes:
            counts = np.bincount(members.astype(np.int64), minlength=len(classes))
            # Every class must be learnt; a model of two classes can only be judged where both occur.
            needed = classes if name == "train" or len(classes) == 2 else ()
            absent = [value for value, count in zip(classes, counts, strict=True) if not count and value in needed]
            if absent:
                problems.append(f"{name} has no row of class {', '.join(absent[:5])}")
    if problems:
        shown = ", ".join(f"{key} {value}" for key, value in facts.items())
        raise SplitTooSmall(
            f"the split by {by} leaves too little: {'; '.join(problems)}",
            where="data.split",
            why=f"boundaries: {shown}" if shown else None,
            fix="move the boundaries, use more data, or split by another rule (stratified keeps rare classes)",
        )
