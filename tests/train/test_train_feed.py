"""The way of rows to the device."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fairlead.dataset import LABEL
from fairlead.train.data_plan import DataPlan, sizes
from fairlead.train.feed import Feed, SplitReader


class Rows:
    """A source in memory that counts what is read: the label of row i is i, and so is its one number."""

    def __init__(self, *group_rows: int) -> None:
        ends = np.cumsum(group_rows)
        self.tables = [
            pa.table({"x": np.arange(end - rows, end, dtype=np.float64), LABEL: np.arange(end - rows, end)})
            for rows, end in zip(group_rows, ends, strict=True)
        ]
        self.reads: list[int] = []

    def row_groups(self, split: str) -> tuple[Any, ...]:
        return tuple(Group(index, table.num_rows) for index, table in enumerate(self.tables))

    def read(self, row_group: Any, columns: list[str] | None = None) -> pa.Table:
        self.reads.append(row_group.index)
        return self.tables[row_group.index]


class Group:
    def __init__(self, index: int, rows: int) -> None:
        self.index, self.rows = index, rows


def transform(table: pa.Table) -> dict[str, np.ndarray]:
    return {"numeric": table["x"].to_numpy().astype(np.float32)[:, None]}


def feed(source: Rows, rank: int = 0, world: int = 1, cache: int = 1 << 20, **changes: Any) -> Feed:
    values = {"global_batch": 7, "accumulate": 1, "window_rows": 20, "seed": 5} | changes
    plan = DataPlan(sizes(source.row_groups("train")), **values)
    reader = SplitReader(source, "train", transform, np.int64, cache)
    return Feed(plan, reader, reader, rank, world, torch.device("cpu"))


def labels_by_step(
    feeds: list[Feed], epoch: int = 0, step: int = 0, epochs: int = 2
) -> dict[tuple[int, int], list[int]]:
    seen: dict[tuple[int, int], list[int]] = {}
    for one in feeds:
        for batch in one.steps(epoch, step, epochs):
            here = seen.setdefault((batch.epoch, batch.step), [])
            for micro in batch.micros:
                assert torch.equal(micro.tensors["numeric"][:, 0].long(), micro.labels)
                here += micro.labels.tolist() if micro.weights is None else []
            assert batch.rows == min(7, 50 - 7 * batch.step)
    return {key: sorted(labels) for key, labels in seen.items()}


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (3, 2), (9, 1)])
def test_the_same_rows_come_in_each_step_however_many_workers_share_them(world: int, accumulate: int) -> None:
    alone = labels_by_step([feed(Rows(10, 25, 15))])
    shared = labels_by_step([feed(Rows(10, 25, 15), rank, world, accumulate=accumulate) for rank in range(world)])
    assert shared == alone
    assert sorted(label for (epoch, _), rows in alone.items() if epoch == 1 for label in rows) == list(range(50))


def test_from_a_position_on_the_same_rows_come_without_a_replay() -> None:
    whole = labels_by_step([feed(Rows(10, 25, 15))], epochs=3)
    source = Rows(10, 25, 15)
    rest = labels_by_step([feed(source, cache=0)], epoch=1, step=5, epochs=3)
    assert rest == {position: rows for position, rows in whole.items() if position >= (1, 5)}
    assert len(source.reads) < 6, "windows before the position are not read"


def test_rows_that_fit_into_the_cache_are_read_once_and_others_once_in_each_epoch() -> None:
    cached, uncached = Rows(10, 25, 15), Rows(10, 25, 15)
    assert labels_by_step([feed(cached)], epochs=4) == labels_by_step([feed(uncached, cache=0)], epochs=4)
    assert sorted(cached.reads) == [0, 1, 2]
    assert sorted(uncached.reads) == [0] * 4 + [1] * 4 + [2] * 4


def test_an_error_while_reading_ahead_comes_out_of_the_loop() -> None:
    class Broken(Rows):
        def read(self, row_group: Any, columns: list[str] | None = None) -> pa.Table:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(feed(Broken(10, 25, 15)).steps(0, 0, 1))


def test_workers_share_the_validation_rows_without_overlap() -> None:
    seen = [
        label
        for rank in range(3)
        for batch in feed(Rows(10, 1, 15), rank, 3).evaluation()
        for label in batch.labels.tolist()
    ]
    assert sorted(seen) == list(range(26))


def test_the_sample_is_the_same_for_all_workers(tmp_path: Path) -> None:
    samples = [feed(Rows(0, 25, 15), rank, 2).sample(8).labels.tolist() for rank in range(2)]
    assert samples[0] == samples[1] == list(range(8))
