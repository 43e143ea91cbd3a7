"""Which row is in which step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fairlead.train.data_plan import DataPlan

plans = st.builds(
    DataPlan,
    group_rows=st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any).map(tuple),
    global_batch=st.integers(1, 50),
    accumulate=st.integers(1, 4),
    window_rows=st.integers(1, 90),
    seed=st.integers(0, 10),
)


def order(plan: DataPlan, epoch: int) -> list[tuple[int, int]]:
    """(row group, row in it) in the order of the epoch's stream."""
    stream = []
    for window in plan.windows(epoch):
        rows = [(group, row) for group in window.groups for row in range(plan.group_rows[group])]
        stream += [rows[place] for place in plan.shuffled(epoch, window)]
    return stream


@given(plans, st.integers(0, 5))
def test_an_epoch_has_every_row_once_and_is_a_function_of_seed_and_epoch(plan: DataPlan, epoch: int) -> None:
    stream = order(plan, epoch)
    assert sorted(stream) == [(g, r) for g, rows in enumerate(plan.group_rows) for r in range(rows)]
    assert stream == order(plan, epoch)


@given(plans, st.integers(0, 5))
def test_windows_lie_end_to_end_and_hold_at_most_window_rows_unless_one_row_group_is_larger(
    plan: DataPlan, epoch: int
) -> None:
    start = 0
    for window in plan.windows(epoch):
        assert window.start == start
        assert window.rows == sum(plan.group_rows[group] for group in window.groups)
        assert window.rows <= plan.window_rows or len(window.groups) == 1
        start += window.rows
    assert start == plan.rows


@given(plans, st.integers(1, 5))
def test_a_step_has_the_same_rows_for_any_number_of_workers(plan: DataPlan, world: int) -> None:
    for step in range(plan.steps_per_epoch):
        seen = []
        for rank in range(world):
            pieces = list(plan.pieces(rank, world, step))
            assert len(pieces) == plan.accumulate
            assert all(piece.stop > piece.start for piece in pieces)
            seen += [place for piece in pieces if not piece.padded for place in range(piece.start, piece.stop)]
        assert sorted(seen) == list(range(*plan.step_rows(step)))


def test_other_epochs_and_other_seeds_give_other_orders() -> None:
    plan = DataPlan((50, 50, 50), 10, 1, 100, seed=1)
    other = DataPlan((50, 50, 50), 10, 1, 100, seed=2)
    assert order(plan, 0) != order(plan, 1)
    assert order(plan, 0) != order(other, 0)


def test_rows_are_mixed_over_the_whole_window() -> None:
    plan = DataPlan((1000, 1000), 100, 1, 2000, seed=3)
    first_batch = [group for group, _ in order(plan, 0)[:100]]
    assert 20 < np.sum(first_batch) < 80
