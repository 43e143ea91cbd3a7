"""What a person may ask of a rollout, in which state, and the sentence that refuses the rest.

abort   in every state that has not ended, and wins over everything else, a promotion under way included.
pause   while something is being measured or started.
resume  when paused. After a pause for lack of a verdict, the verdicts are taken as accepted and the rollout advances.
promote when the candidate is ready, whatever the evidence says; the decision names the person.
"""

from fairlead.records.rollout import TERMINAL, Observation, Phase, RolloutRecord

COMMANDS = ("pause", "resume", "promote", "abort")

_ENDED = {
    Phase.PROMOTED: "has ended: its candidate is the champion; to go back, roll back to an earlier version",
    Phase.ABORTED: "has ended: its candidate was taken back; start a new rollout to try again",
}
_PAUSABLE = frozenset({Phase.STARTING, Phase.SHADOW, Phase.CANARY, Phase.WATCHING})


def refusal(record: RolloutRecord, command: str, observation: Observation | None = None) -> str:
    """Why `command` cannot be followed now; "" when it can. Without `observation`, what only the servers know (whether
    the candidate is ready) is left to the loop."""
    phase = record.phase
    if command not in COMMANDS:
        return f"there is no command {command!r}; there are {', '.join(COMMANDS)}"
    if phase in TERMINAL:
        return f"rollout {record.id} {_ENDED[phase]}"
    if command == "abort":
        return ""
    if phase is Phase.ABORTING:
        return f"rollout {record.id} is being rolled back, and nothing stops that"
    return {"pause": _refuse_pause, "resume": _refuse_resume}.get(command, lambda r: _refuse_promote(r, observation))(
        record
    )


def _refuse_pause(record: RolloutRecord) -> str:
    if record.phase is Phase.PAUSED:
        return f"rollout {record.id} is paused already: {record.pause_reason}"
    if record.phase not in _PAUSABLE:
        return f"rollout {record.id} is being promoted; abort still takes it back"
    return ""


def _refuse_resume(record: RolloutRecord) -> str:
    return "" if record.phase is Phase.PAUSED else f"rollout {record.id} is not paused: it is in {record.phase.value}"


def _refuse_promote(record: RolloutRecord, observation: Observation | None) -> str:
    if record.phase is Phase.PROMOTING:
        return f"rollout {record.id} is being promoted already"
    if observation is None or record.phase is Phase.WATCHING:
        return ""
    if observation.error:
        return f"the candidate cannot be promoted: whether it is ready is not known ({observation.error})"
    if not observation.candidate_ready:
        return "the candidate cannot be promoted: it is not ready to answer"
    return ""
