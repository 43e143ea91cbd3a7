"""What happened to one request, from the moment it was understood to the moment all its answers are known."""

from typing import Any

from fairlead.records.release import Arm
from fairlead.serve.model import Answer, Item, LoadedModel
from fairlead.serve.quarantine import Quarantine


class Exchange:
    """One request and who answered what. Filled in on the way; read by evidence, metrics and the request log.

    `arm` is who answered the user ("champion" or "candidate"), `answered_by` the version that did. The seconds of a
    model's call are negative when that model was not called. `shadow_answer` is None while and when there is none.
    `body` is kept while a candidate may get the request and die of it; `kept_away`: it was not sent for that reason.
    """

    __slots__ = (
        "answer",
        "answered_by",
        "arm",
        "at",
        "body",
        "candidate",
        "candidate_failed",
        "candidate_seconds",
        "champion_failed",
        "champion_seconds",
        "chosen",
        "fallback",
        "id",
        "kept_away",
        "key",
        "model",
        "quarantine",
        "rollout",
        "rows",
        "seconds",
        "shadow_answer",
        "shadow_dropped",
        "shadow_failed",
        "shadow_seconds",
        "slices",
        "slow_seconds",
        "status",
        "tried",
        "weight",
    )

    def __init__(self, identity: str, at: float, model: LoadedModel, rows: Item) -> None:
        self.id = identity
        self.at = at
        self.model = model  # the champion of the moment: its signature describes the rows
        self.rows = rows
        self.rollout = ""
        self.key = ""  # what may come again; "" for a request id that the server made up
        self.weight = 0.0  # at which the key chose its arm; 0 where the client or nobody chose
        self.chosen = False  # True: the candidate
        self.tried = False  # its key takes part in an A/B test or a bandit
        self.candidate: Arm | None = None
        self.arm = "champion"
        self.answered_by: Arm = model.arm
        self.answer: Answer | None = None
        self.fallback = False
        self.status = 200
        self.seconds = 0.0
        self.slices: tuple[str, ...] = ()  # columns whose values get evidence of their own
        self.slow_seconds = 1.0
        self.champion_seconds = -1.0
        self.champion_failed = False
        self.body = b""
        self.quarantine: Quarantine | None = None
        self.kept_away = False
        self.candidate_seconds = -1.0
        self.candidate_failed = False
        self.shadow_seconds = -1.0
        self.shadow_failed = False
        self.shadow_dropped = False
        self.shadow_answer: Answer | None = None

    def row_ids(self) -> list[str]:
        """One id per row, as labels name them: the request id, or ``id/0``, ``id/1``, ... when there are several."""
        if len(self.rows) == 1:
            return [self.id]
        return [f"{self.id}/{index}" for index in range(len(self.rows))]

    def quarantined(self) -> bool:
        """True, and remembered, when the candidate died of this body before."""
        self.kept_away = self.quarantine is not None and self.quarantine.holds(self.body)
        return self.kept_away

    def suspect(self, life: bytes) -> None:
        """This life of the candidate ended while it had this request."""
        if self.quarantine is not None:
            self.quarantine.suspect(self.body, life)

    def scores(self) -> list[Any]:
        """One score per row, None without an answer."""
        return self.answer.scores if self.answer is not None else [None] * len(self.rows)
