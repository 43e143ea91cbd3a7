"""Live requests from recorded rows, in step with a rollout when asked."""

import time
from collections.abc import Callable
from typing import Any

from fairlead.deploy.rollout.start import open_rollout
from fairlead.records.rollout import Phase
from fairlead.serve.traffic import TrafficPlan, run_traffic
from fairlead.wiring.context import Context
from fairlead.wiring.serving import on_cluster, read_state

_MEASURED = frozenset({Phase.SHADOW, Phase.CANARY, Phase.WATCHING})
_LOOK_SECONDS = 0.5


def send_traffic(
    context: Context,
    *,
    data: str,
    rate: float,
    seconds: float | None,
    requests: int | None,
    while_rollout: bool,
    label_delay: float | None,
    sticky: str | None,
    url: str | None,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Replay rows and return what the clients saw. With `while_rollout`, wait until a rollout measures, and stop when
    it has ended."""
    if while_rollout:
        say("waiting for a rollout")
        _wait_for_rollout(context)
    project = context.project
    plan = TrafficPlan(
        url=url or _serving_url(context),
        model=project.project,
        data=data,
        base=context.base,
        fields=project.features.names(),
        rate=rate,
        seconds=seconds,
        requests=requests,
        label_column=project.data.label.column,
        label_delay=label_delay,
        sticky=sticky,
        seed=seed,
    )
    stop = _RolloutEnded(context) if while_rollout else None
    return run_traffic(plan, stop=stop, say=say)


def _serving_url(context: Context) -> str:
    if on_cluster(context):
        from fairlead.wiring.cluster import serving_url

        return serving_url(context)
    state, serve = read_state(context), context.project.serve
    return state.url if state else f"http://{serve.host}:{serve.port}"


def _wait_for_rollout(context: Context) -> None:
    while True:
        record = open_rollout(context.store, context.project.project)
        if record is not None and record.phase in _MEASURED:
            return
        time.sleep(_LOOK_SECONDS)


class _RolloutEnded:
    """True once no rollout is open; asks the store at most twice a second."""

    def __init__(self, context: Context) -> None:
        self._context, self._looked, self._ended = context, 0.0, False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._ended and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._ended = open_rollout(self._context.store, self._context.project.project) is None
        return self._ended
