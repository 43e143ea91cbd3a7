"""Hosts one rollout in a process of its own, for tests that kill it:

    FAIRLEAD_FAULT=after:put:3 python -m fairlead.testing.rollout_host STORE URL TOKEN_FILE MODEL ROLLOUT TOLD

Real parts throughout: the loop, its lease (shortened, so that tests need not wait for it), the store, the registry and
the servers. TOLD is a file that gets a line with the generation of each decision that is told.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from fairlead.clock import SystemClock
from fairlead.deploy.backends.serving import ServingEffects, ServingObserver
from fairlead.deploy.rollout import lease
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.records.rollout import Decision, RolloutRecord
from fairlead.registry.registry import Registry
from fairlead.serve.client import ServingClient
from fairlead.serve.token import read_token
from fairlead.store import Store, open_store
from fairlead.testing.fault_points import FaultPoint, KillingApi, KillingStore

LEASE_SECONDS = 1.0
_LONGEST_SECONDS = 120.0
_NOISE = 0.5


def main(arguments: Sequence[str]) -> int:
    """Host the rollout until it ends; its phase is the last line of the output."""
    uri, url, token_file, model, rollout, told = arguments
    lease.LEASE_SECONDS = LEASE_SECONDS
    point, clock = FaultPoint.from_environment(), SystemClock()
    store = cast(Store, KillingStore(open_store(uri, Path.cwd()), point))
    with ServingClient(url, read_token(Path(token_file)), model) as client:
        api: Any = KillingApi(client, point)

        def tell(record: RolloutRecord, decision: Decision) -> None:
            def line() -> None:
                with Path(told).open("a") as file:
                    file.write(f"{decision.generation}\n")

            point.write("tell", line)

        effects = ServingEffects(store, api, Registry(store, model, clock), tell=tell)
        observe = ServingObserver(api, retraining_noise=_NOISE)
        loop = RolloutLoop(store, effects, observe, clock, model=model, rollout=rollout, name="a host of the tests")
        print(loop.run(timeout_seconds=_LONGEST_SECONDS, outwait=True).phase.value)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
