"""From a request body to an answer: parse, validate, route, transform, batch, ONNX, calibrate, respond.

The same for both doors. What is live is one immutable object that is swapped by assignment: a request reads it once,
so that it is answered by one state of the world.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from fairlead.errors import FairleadError, PredictionFailed, TransformError
from fairlead.records.release import Arm, Release
from fairlead.serve.batcher import INLINE_LIMIT_SECONDS, Batcher, DeadlinePassed
from fairlead.serve.candidate import CandidateDied, CandidatePort, Shadow
from fairlead.serve.candidate_calls import CandidateCalls
from fairlead.serve.exchange import Exchange
from fairlead.serve.model import Answer, Item, LoadedModel, fits
from fairlead.serve.parsing import ParsedRequest, RequestParser, valid_identity
from fairlead.serve.quarantine import Quarantine, Quarantines
from fairlead.serve.recent import RecentSeconds
from fairlead.serve.recorder import Recorder, wall_clock
from fairlead.serve.refusals import Refusal, unavailable
from fairlead.serve.router import copier, nobody, splitter
from fairlead.spec.serve import Serve

Kind = Literal["infer", "predict"]
Reply = tuple[int, bytes, list[tuple[bytes, bytes]]]

_LEFT_SHARE = 0.3
_MOST_LEFT_SHARE = 0.9
"""Shares of the deadline that a candidate leaves to the champion, which may have to step in: twice its p99 within these
bounds. Once would be missed by one request in a hundred, and a busy machine has hiccups that no p99 tells of."""

_MIN_SHADOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Live:
    """What answers now. `candidate` is None while there is none that can be called."""

    release: Release
    model: LoadedModel
    batcher: Batcher
    parser: RequestParser
    candidate: CandidateCalls | None = None
    candidate_arm: Arm | None = None
    weight: float = 0.0
    on_candidate: Callable[[str], bool] = nobody
    is_shadowed: Callable[[str], bool] = nobody
    salt: str = ""
    slow_seconds: float = 1.0
    quarantine: Quarantine | None = None


class DataPlane:
    """Answers requests for one served model. Lives in one event loop."""

    def __init__(self, model: str, spec: Serve, recorder: Recorder) -> None:
        self.model = model
        self.spec = spec
        self.live: Live | None = None
        self._recorder = recorder
        self._deadline_seconds = spec.deadline_ms / 1000
        self._calls: CandidateCalls | None = None
        self._shadow = Shadow(recorder.record, max_batch=spec.max_batch)
        self._champion_lately = RecentSeconds()
        self.quarantines = Quarantines()
        self._now = wall_clock()
        self._prefix = uuid.uuid4().hex[:12]
        self._count = 0
        sticky = spec.sticky or ""
        self.sticky_header = sticky.removeprefix("header:").lower().encode() if sticky.startswith("header:") else b""
        self._sticky_field = "" if self.sticky_header else sticky

    # --- what is live ------------------------------------------------------------------------------------------------
    def make_batcher(self, model: LoadedModel) -> Batcher:
        """A queue for a champion. Blocking: it measures how long the model takes."""
        return Batcher(
            model.predict_many,
            max_batch=self.spec.max_batch,
            wait_seconds=self.spec.batch_wait_ms / 1000,
            max_queue=self.spec.max_queue,
            inline=model.measure_seconds() < INLINE_LIMIT_SECONDS,
            name="champion",
        )

    def make_live(
        self, release: Release, model: LoadedModel, batcher: Batcher, candidate: CandidatePort | None
    ) -> Live:
        """The state that applies `release` with a loaded champion and, when it can be called, the candidate."""
        arm = release.candidate
        usable = candidate is not None and arm is not None
        weight, salt = release.candidate_weight if usable else 0.0, arm.digest if arm else ""
        if candidate is not None and (self._calls is None or self._calls.port is not candidate):
            self._calls = CandidateCalls(candidate)
        bound_ms = release.latency_bound_ms or self.spec.deadline_ms
        return Live(
            release=release,
            model=model,
            batcher=batcher,
            parser=RequestParser(model.signature),
            candidate=self._calls if usable else None,
            candidate_arm=arm,
            weight=weight,
            on_candidate=splitter(salt, weight),
            is_shadowed=copier(salt, release.shadow_percent if usable else 0.0),
            salt=salt,
            slow_seconds=bound_ms / 1000,
            quarantine=self.quarantines.of(arm.digest) if arm else None,
        )

    def require_live(self) -> Live:
        """What is live. Raises Refusal (503) while nothing is."""
        if self.live is None:
            raise unavailable("not_ready", "no model is loaded yet")
        return self.live

    @property
    def waiting(self) -> int:
        """Requests that wait for the champion."""
        return self.live.batcher.waiting if self.live is not None else 0

    @property
    def full(self) -> bool:
        """True while as many requests wait for the champion as may. Nobody is let in then, be it to the candidate: the
        champion could not step in for it."""
        return self.live is not None and self.live.batcher.full

    def turned_away(self) -> None:
        """Count a request that was refused unread, while `full`."""
        self._recorder.user_saw("", 429)

    # --- requests ----------------------------------------------------------------------------------------------------
    async def handle(
        self, kind: Kind, body: bytes, *, request_id: str = "", key: str = "", version: str | None = None
    ) -> Reply:
        """Answer one request. `request_id` and `key` come from headers ("" when absent), `version` from the path."""
        started = time.perf_counter()
        live = self.live
        rollout = live.release.rollout if live is not None else ""
        exchange: Exchange | None = None
        try:
            if live is None:
                raise unavailable("not_ready", "no model is loaded yet")
            arm = self._pinned(live, version)
            parsed = live.parser.parse_infer(body) if kind == "infer" else live.parser.parse_rows(body)
            given = parsed.id or (request_id if request_id and valid_identity(request_id) else "")
            identity = given or self._new_id()
            exchange = Exchange(identity, self._now(), live.model, parsed.rows)
            exchange.rollout = rollout
            exchange.slow_seconds = live.slow_seconds
            if live.candidate is not None:
                exchange.candidate, exchange.slices = live.candidate_arm, live.release.slices
                exchange.body, exchange.quarantine = body, live.quarantine
                exchange.key = sticky = key or (self._key_of(parsed, given) if self._sticky_field else given)
                chosen = arm == "candidate" if arm is not None else live.on_candidate(sticky or identity)
                if arm is None and 0 < live.weight < 100:
                    exchange.weight, exchange.chosen = live.weight, chosen
                    exchange.tried = live.release.outcome is not None
                if chosen:
                    await self._ask_candidate(live.candidate, exchange, started)
            if exchange.answer is None:
                await self._ask_champion(live, exchange, started)
        except Refusal as refusal:
            self._refused(exchange, refusal, rollout, started)
            return refusal.status, refusal.body(), refusal.headers()
        exchange.seconds = time.perf_counter() - started
        reply = orjson.dumps(self._document(kind, exchange, parsed))
        self._finish(live, exchange)
        return 200, reply, []

    def _refused(self, exchange: Exchange | None, refusal: Refusal, rollout: str, started: float) -> None:
        shed = refusal.status == 429 and exchange is not None and exchange.candidate_seconds < 0
        if exchange is None or shed:  # nobody was asked: nothing to tell of any model
            self._recorder.user_saw(rollout, refusal.status)
            return
        if refusal.status == 400:
            # The champion cannot take this input either, so it says nothing about the candidate.
            exchange.candidate_failed, exchange.candidate_seconds = False, -1.0
        exchange.status = refusal.status
        exchange.seconds = time.perf_counter() - started
        exchange.body = b""
        self._recorder.record(exchange)

    def _pinned(self, live: Live, version: str | None) -> str | None:
        if version is None:
            return None
        if version == str(live.model.arm.version):
            return "champion"
        if live.candidate_arm is not None and live.candidate is not None and version == str(live.candidate_arm.version):
            return "candidate"
        raise Refusal(404, "unknown_version", f"version {version} is not served", field="version")

    def _key_of(self, parsed: ParsedRequest, identity: str) -> str:
        value = parsed.rows[0].get(self._sticky_field)
        return identity if value is None else str(value)

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:x}"

    async def _ask_candidate(self, candidate: CandidateCalls, exchange: Exchange, started: float) -> None:
        """Let the candidate answer; on any failure leave the exchange without an answer, and the failure counted."""
        begun = time.perf_counter()
        budget = self._candidate_seconds() - (begun - started)
        if exchange.quarantined():
            exchange.candidate_failed, exchange.candidate_seconds = True, budget
            return
        answer: Answer | FairleadError | None = None
        try:
            answer = await candidate.submit(exchange.rows, budget)
        except CandidateDied as died:
            exchange.suspect(died.life)
        except Exception:  # a candidate may fail in any way; none may reach the user
            answer = None
        if isinstance(answer, Answer) and fits(answer, exchange.model.signature, len(exchange.rows)):
            exchange.answer = answer
            exchange.arm = "candidate"
            exchange.answered_by = exchange.candidate or exchange.answered_by
            # Its own time where it tells: the way to another process is nothing that the candidate could be better at.
            exchange.candidate_seconds = answer.seconds if answer.seconds >= 0 else time.perf_counter() - begun
        else:
            exchange.candidate_failed = True
            exchange.candidate_seconds = time.perf_counter() - begun

    def _candidate_seconds(self) -> float:
        """What a candidate may use of the deadline: all but what the champion needs when it has to step in."""
        p99 = self._champion_lately.p99
        deadline = self._deadline_seconds
        if p99 < 0:
            return deadline * (1 - _LEFT_SHARE)
        return deadline - min(max(2 * p99, deadline * _LEFT_SHARE), deadline * _MOST_LEFT_SHARE)

    async def _ask_champion(self, live: Live, exchange: Exchange, started: float) -> None:
        """Let the champion answer, or the fallback. Raises Refusal when nobody can."""
        begun = time.perf_counter()
        problem: FairleadError | None = None
        try:
            exchange.answer = await live.batcher.submit(exchange.rows, started + self._deadline_seconds)
        except DeadlinePassed:
            problem = PredictionFailed("no answer within the deadline")
        except TransformError as error:
            # The value passed the signature and yet cannot be transformed: the client's, not the model's.
            raise Refusal(400, "invalid_value", error.what, field=_field_of(error, exchange.rows)) from error
        except FairleadError as error:
            problem = error
        exchange.champion_seconds = time.perf_counter() - begun
        if problem is None:
            self._champion_lately.add(exchange.champion_seconds)
            return
        exchange.champion_failed = True
        prior = live.model.prior if self.spec.fallback == "prior" else None
        if prior is None:
            late = problem.what == "no answer within the deadline"
            raise unavailable("deadline" if late else "model_failed", problem.what)
        exchange.fallback = True
        exchange.answer = Answer(
            prior.scores * len(exchange.rows), prior.labels * len(exchange.rows) if prior.labels is not None else None
        )

    def _finish(self, live: Live, exchange: Exchange) -> None:
        """Copy the request to the candidate when it is due, and record it."""
        if (
            live.is_shadowed is not nobody
            and live.candidate is not None
            and exchange.arm == "champion"
            and not exchange.fallback
            and exchange.candidate_seconds < 0
            and live.is_shadowed(exchange.id)
        ):
            self._shadow.offer(exchange, live.candidate.port, max(self._deadline_seconds, _MIN_SHADOW_SECONDS))
        else:
            exchange.body = b""
            self._recorder.record(exchange)

    # --- responses ---------------------------------------------------------------------------------------------------
    def _document(self, kind: Kind, exchange: Exchange, parsed: ParsedRequest) -> dict[str, Any]:
        answer = exchange.answer
        if answer is None:
            raise PredictionFailed("an exchange ended without an answer")
        version = str(exchange.answered_by.version)
        parameters = {
            "request_id": exchange.id,
            "model_version": version,
            "model_digest": exchange.answered_by.digest,
            "arm": exchange.arm,
            "fallback": exchange.fallback,
        }
        signature = exchange.model.signature
        name = signature.outputs[0].name
        if kind == "predict":
            if answer.labels is None:
                predictions = [{name: score} for score in answer.scores]
            else:
                predictions = [
                    {name: score, "label": label} for score, label in zip(answer.scores, answer.labels, strict=True)
                ]
            return {"predictions": predictions, "parameters": parameters}
        rows = len(answer.scores)
        outputs: list[dict[str, Any]] = []
        if not parsed.outputs or name in parsed.outputs:
            shape = [rows, len(signature.classes)] if signature.task == "multiclass" else [rows]
            data = answer.scores
            if signature.task == "multiclass":
                data = [value for row in data for value in row]
            outputs.append({"name": name, "shape": shape, "datatype": "FP64", "data": data})
        if answer.labels is not None and (not parsed.outputs or "label" in parsed.outputs):
            outputs.append({"name": "label", "shape": [rows], "datatype": "BYTES", "data": answer.labels})
        return {
            "model_name": self.model,
            "model_version": version,
            "id": exchange.id,
            "parameters": parameters,
            "outputs": outputs,
        }

    async def close(self) -> None:
        """Stop copying and count what was left."""
        await self._shadow.close()
        self._recorder.work()


def _field_of(error: TransformError, rows: Item) -> str:
    """The field that a TransformError names, as well as its sentence tells."""
    return next((name for name in rows[0] if f"column {name}" in error.what), "")
