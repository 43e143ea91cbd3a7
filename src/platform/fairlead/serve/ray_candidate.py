"""A candidate in an application of its own: what crashes, hangs or eats memory there takes nobody with it."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import ray
from ray import serve

from fairlead.records.model import Signature
from fairlead.records.release import Arm
from fairlead.serve.candidate_link import Address, CandidateLink
from fairlead.serve.candidate_server import SECRET_BYTES, CandidateServer
from fairlead.serve.garbage import spare_what_stays
from fairlead.serve.model import load_model
from fairlead.store.opening import open_store


class CandidateModel:
    """The deployment: one model, called over a socket by the ingress replicas of the same served model. Ray's handle
    only tells them where it is, and what to say there."""

    def __init__(self, arm: Arm, store_uri: str, base: str) -> None:
        cache = Path(base) / ".fairlead" / "cache" / "bundles"
        model = load_model(open_store(store_uri, Path(base)), arm, cache)
        self._server = CandidateServer(model, secrets.token_bytes(SECRET_BYTES))
        spare_what_stays()
        self._host = ray.util.get_node_ip_address()
        self._listening: asyncio.Task[int] | None = None

    async def address(self) -> tuple[bytes, str, int]:
        """Secret, host and port. The first call begins to listen."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._server.listen(self._host))
        return self._server.secret, self._host, await asyncio.shield(self._listening)


def ray_candidate(app_name: str, signature: Signature) -> CandidateLink:
    """A `CandidatePort` to the candidate's application. `signature`: the champion's."""
    method: Any = serve.get_app_handle(app_name).options(method_name="address")

    async def resolve() -> Address:
        secret, host, port = await method.remote()
        return Address(secret, host, port)

    return CandidateLink(resolve, signature)
