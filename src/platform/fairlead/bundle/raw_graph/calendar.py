"""Calendar parts of a wall clock in integer arithmetic, as ONNX operators.

The proleptic Gregorian calendar in eras of 400 years that begin on the first of March: Hinnant (2013),
"chrono-Compatible Low-Level Date Algorithms", `civil_from_days`. ONNX divides integers towards zero, so everything is
kept at zero or above.
"""

from fairlead.bundle.raw_graph.ops import Name, Ops

DAY_MICROSECONDS = 86_400_000_000
# Days from 0000-03-01, where eras begin, to 1970-01-01.
_EPOCH = 719_468
MISSING = -(2**63)


class Clock:
    """The parts of int64 [N] microseconds since 1970-01-01 on the wall clock, years 1 to 9999."""

    def __init__(self, ops: Ops, microseconds: Name) -> None:
        self._ops = ops
        shifted = ops.op("Add", microseconds, _EPOCH * DAY_MICROSECONDS)
        self._day = ops.op("Div", shifted, DAY_MICROSECONDS)
        self._minute = ops.op("Div", ops.op("Mod", shifted, DAY_MICROSECONDS), 60_000_000)

    def part(self, part: str) -> Name:
        """int64 [N] of one of `fairlead.features.instants.PARTS`."""
        ops = self._ops
        if part == "hour":
            return ops.op("Div", self._minute, 60)
        if part == "minute":
            return ops.op("Mod", self._minute, 60)
        weekday = ops.op("Mod", ops.op("Add", self._day, (3 - _EPOCH) % 7), 7)
        if part == "weekday":
            return weekday
        if part == "week":
            # The ISO week of a day is the week of its Thursday, counted in the Thursday's year.
            thursday = ops.op("Add", self._day, ops.op("Sub", 3, weekday))
            before = ops.op("Sub", self._date(thursday)[2], 1)
            return ops.op("Add", ops.op("Div", before, 7), 1)
        month, day, day_of_year = self._date(self._day)
        return {"month": month, "day": day, "dayofyear": day_of_year}[part]

    def _date(self, days: Name) -> tuple[Name, Name, Name]:
        """Month 1 to 12, day of the month from 1, day of the year from 1."""
        ops = self._ops
        era = ops.op("Div", days, 146_097)
        of_era = ops.op("Mod", days, 146_097)
        leaps = ops.op("Add", ops.op("Sub", of_era, ops.op("Div", of_era, 1460)), ops.op("Div", of_era, 36_524))
        year_of_era = ops.op("Div", ops.op("Sub", leaps, ops.op("Div", of_era, 146_096)), 365)
        century = ops.op("Div", year_of_era, 100)
        before = ops.op("Add", ops.op("Mul", year_of_era, 365), ops.op("Div", year_of_era, 4))
        since_march = ops.op("Sub", of_era, ops.op("Sub", before, century))
        shifted = ops.op("Div", ops.op("Add", ops.op("Mul", since_march, 5), 2), 153)
        first = ops.op("Div", ops.op("Add", ops.op("Mul", shifted, 153), 2), 5)
        day = ops.op("Add", ops.op("Sub", since_march, first), 1)
        late = ops.op("Less", shifted, 10)  # March to December
        month = ops.op("Where", late, ops.op("Add", shifted, 3), ops.op("Sub", shifted, 9))
        year = ops.op("Add", ops.op("Mul", era, 400), year_of_era)  # of the last first of March
        from_march = ops.op("Add", ops.op("Add", since_march, 60), self._leap(year))
        return month, day, ops.op("Where", late, from_march, ops.op("Sub", since_march, 305))

    def _leap(self, year: Name) -> Name:
        """1 for a leap year, else 0."""
        ops = self._ops
        fourth, century, fourth_century = (ops.op("Equal", ops.op("Mod", year, n), 0) for n in (4, 100, 400))
        return ops.cast(ops.op("Or", ops.op("And", fourth, ops.op("Not", century)), fourth_century), "int64")
