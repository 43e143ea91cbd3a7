"""How far a batch is from the accepted baseline, where the schema bounds that (``max_distance``).

Two populations no further apart than the bound give samples no further apart than the bound plus what sampling
explains (`distance.sampling_bound`, each side at half of `FALSE_ALARM`). So such a batch is accused with a probability
of at most `FALSE_ALARM` for each column, whatever the distribution, when rows are independent. Shapes are `LEVELS`
quantiles, which moves a cumulative frequency by at most half a level on each side.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from fairlead.records.drift import Anomaly, Baseline, BaselineColumn
from fairlead.watch.cause_numbers import LEVELS, distance_of_shapes
from fairlead.watch.distance import sampling_bound

FALSE_ALARM = 0.001


def beyond_distance(before: Baseline | None, now: Baseline, bounds: Mapping[str, float]) -> Iterator[Anomaly]:
    """Columns further from the baseline than `bounds` (column -> `max_distance`) allow, and those that cannot be
    compared."""
    for name, bound in bounds.items():
        known = None if before is None else before.columns.get(name)
        fresh = now.columns.get(name)
        if known is None or fresh is None:
            why = "nothing was accepted yet" if before is None else "the column is no feature, or was not accepted"
            fix = "fairlead data schema accept writes the baseline, which describes features"
            yield Anomaly(name, "not_comparable", False, None, f"max_distance is not checked: {why}", (), fix)
            continue
        distance, chance = _distance(known, fresh)
        if distance > bound + chance:
            what = (
                f"the values are {distance:.3f} from the accepted ones, {bound:g} is allowed and chance explains "
                f"another {chance:.3f}"
            )
            fix = "look what moved: fairlead data drift; or accept it: fairlead data schema accept"
            yield Anomaly(name, "distance", True, distance, what, (), fix)


def _distance(before: BaselineColumn, now: BaselineColumn) -> tuple[float, float]:
    """(the distance, what sampling explains of it)."""
    present = [side.rows - side.missing for side in (before, now)]
    if before.shape and now.shape:
        distance = distance_of_shapes(np.array(before.shape), np.array(now.shape), 0.0)
        return distance, sum(sampling_bound(rows, FALSE_ALARM, 0) for rows in present) + 1 / LEVELS
    values = set(before.top) | set(now.top)
    shares = [
        {value: side.top.get(value, 0) / max(1, rows) for value in values}
        for side, rows in zip((before, now), present, strict=True)
    ]
    distance = max((abs(shares[0][value] - shares[1][value]) for value in values), default=0.0)
    return distance, sum(sampling_bound(rows, FALSE_ALARM, len(values)) for rows in present)
