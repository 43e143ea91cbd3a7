"""A candidate in an application of its own: what crashes, hangs or eats memory there takes nobody with it."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray import serve

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.records.release import Arm
from fairlead.serve.model import Answer, Item, load_model
from fairlead.store.opening import open_store

Wire = tuple[list[Any], list[str] | None] | str
"""An answer as it travels: scores and labels, or why there is none."""


class CandidateModel:
    """The deployment: one model, called by the ingress replicas of the same served model."""

    def __init__(self, arm: Arm, store_uri: str, base: str) -> None:
        cache = Path(base) / ".fairlead" / "cache" / "bundles"
        self._model = load_model(open_store(store_uri, Path(base)), arm, cache)
        # One thread: the event loop stays free for Ray's health checks while a call of the network runs.
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fairlead-candidate")

    async def predict(self, items: Sequence[Item]) -> list[Wire]:
        """One answer, or sentence why not, per item."""
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._threads, self._model.predict_many, items)
        return [(a.scores, a.labels) if isinstance(a, Answer) else str(a.why or a.what) for a in answers]


class RayCandidate:
    """A `CandidatePort` over an application handle."""

    def __init__(self, app_name: str) -> None:
        self._method = serve.get_app_handle(app_name).options(method_name="predict")

    async def predict(self, items: Sequence[Item], timeout_seconds: float) -> list[Answer | FairleadError]:
        """See CandidatePort."""
        async with asyncio.timeout(timeout_seconds):
            wires: list[Wire] = await self._method.remote(list(items))
        return [Answer(*wire) if not isinstance(wire, str) else PredictionFailed(wire) for wire in wires]
