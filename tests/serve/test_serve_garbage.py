"""The collector's settings in a serving process."""

import gc

from fairlead.serve.garbage import spare_what_stays


def test_what_is_there_is_spared_and_cycles_that_come_later_still_go() -> None:
    before = gc.get_threshold()

    class Ring:
        def __init__(self) -> None:
            self.itself = self

    try:
        spare_what_stays()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] > before[0]
        Ring()
        assert gc.collect() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
