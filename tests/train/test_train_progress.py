"""Events on their way from the worker to the terminal."""

import json
import threading
from pathlib import Path

from fairlead.train.progress import Follower, SideFile, TrainProgress


def test_events_reach_the_driver_in_order_and_only_those_of_this_attempt(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    side_file = SideFile(file)
    side_file(TrainProgress("train", 0.1, note="from an attempt before"))
    seen: list[TrainProgress] = []
    with Follower(file, seen.append, poll_seconds=0.001):
        for step in range(5):
            side_file(TrainProgress("train", step / 5, step=step, steps=5, loss=0.5))
    assert [event.step for event in seen] == [0, 1, 2, 3, 4]


def test_a_line_that_is_still_being_written_waits_and_a_strange_one_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    seen: list[TrainProgress] = []
    arrived = threading.Event()

    def tell(event: TrainProgress) -> None:
        seen.append(event)
        arrived.set()

    line = json.dumps({"phase": "train", "share": 0.5, "step": 3})
    with Follower(file, tell, poll_seconds=0.001):
        with file.open("w") as out:
            out.write('{"no": "event"}\n' + line[:10])
            out.flush()
            assert not arrived.wait(0.05)
            out.write(line[10:] + "\n")
        assert arrived.wait(5)
    assert [event.step for event in seen] == [3]


def test_an_event_says_in_one_line_where_training_is() -> None:
    event = TrainProgress("twin", 0.6, 1200, 2000, 3, 5, loss=0.4321, rows_per_second=51234.0, eta_seconds=12.3)
    assert event.sentence() == (
        "training again with another seed: epoch 3 of 5, step 1,200 of 2,000, loss 0.4321, 51,234 rows/s, 12 s left"
    )
    assert TrainProgress("export", 0.95).sentence().startswith("exporting")


def test_steps_that_are_faster_than_a_person_reads_write_nothing(tmp_path: Path) -> None:
    side_file = SideFile(tmp_path / "progress.jsonl", min_interval=3600)
    assert side_file.due()
    side_file(TrainProgress("train", 0.0))
    assert not side_file.due()
