"""Which runs break an invariant, in this process or on all cores."""

import gc
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from crash_sweep import runs
from crash_sweep.invariants import Violation
from fairlead.errors import FairleadError

_COLLECT_EVERY = 200


def violated(chosen: Iterable[runs.Run], references: runs.References) -> Iterator[tuple[runs.Run, str]]:
    """The runs in which an invariant does not hold, each with the reason."""
    gc.disable()  # worlds are cycles; collecting them one by one costs more than the runs
    try:
        for number, run in enumerate(chosen):
            try:
                runs.check(run, references)
            except (Violation, FairleadError) as error:
                yield run, str(error)
            if number % _COLLECT_EVERY == 0:
                gc.collect()
    finally:
        gc.enable()


def violated_on_all_cores(chosen: Sequence[runs.Run]) -> list[tuple[runs.Run, str]]:
    """As `violated`, shared out among one process per core."""
    cores = os.cpu_count() or 1
    parts = [chosen[core::cores] for core in range(cores)]
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        return [found for part in pool.map(_violated, parts) for found in part]


def _violated(part: Sequence[runs.Run]) -> list[tuple[runs.Run, str]]:
    logging.disable(logging.CRITICAL)
    return list(violated(part, runs.references()))
