"""The history of a model's registry: entries that each carry the hash of the one before, and the state that follows.

An entry that was changed, dropped or moved breaks the chain from there on, and a state that was changed without an
entry is not what the entries give. This is not proof against somebody who rewrites the whole object, hashes included,
or cuts its tail together with the state; against that, keep the last hash elsewhere as well.
"""

import hashlib
from typing import Any

import orjson

from fairlead.errors import HistoryBroken

Entry = dict[str, Any]
State = dict[str, Any]

FORMAT = 1
_FIX = "Restore the registry's object from a backup; find out who wrote to the store directly."


def empty_state(model: str) -> State:
    """A registry before its first version."""
    return {"format": FORMAT, "model": model, "versions": [], "aliases": {}, "history": []}


def first_hash(model: str) -> str:
    """What stands in for the entry before the first: each model has another, so that histories cannot be swapped."""
    return hashlib.sha256(f"fairlead registry of {model}".encode()).hexdigest()


def last_hash(state: State) -> str:
    """The hash that the next entry must carry. Raises HistoryBroken when the last entry is not what its hash says."""
    if not state["history"]:
        return first_hash(state["model"])
    last = state["history"][-1]
    _check_hash(state["model"], last)
    return str(last["hash"])


def last_fence(state: State) -> int:
    """The highest generation of a rollout's decision that changed an alias; 0 before the first. It follows from the
    history alone, so nothing beside the chain can move it."""
    return max((int(entry["change"].get("fence", 0)) for entry in state["history"]), default=0)


def entry_hash(entry: Entry) -> str:
    """sha256 of the entry's JSON (sorted keys, no blanks) without its `hash`."""
    content = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def append(state: State, entry: Entry) -> None:
    """Chain `entry` (without sequence, previous, hash) to the history and apply its change to the state."""
    entry = {**entry, "sequence": len(state["history"]) + 1, "previous": last_hash(state)}
    entry["hash"] = entry_hash(entry)
    apply(state, entry)
    state["history"].append(entry)


def apply(state: State, entry: Entry) -> None:
    """What an entry does to the state. Raises ValueError for an action that is unknown."""
    change = entry["change"]
    if entry["action"] == "register":
        state["versions"].append(change["version"])
    elif entry["action"] == "alias":
        if change["after"] is None:
            state["aliases"].pop(change["alias"], None)
        else:
            state["aliases"][change["alias"]] = change["after"]
    elif entry["action"] == "tag":
        version = state["versions"][change["version"] - 1]
        tags = {key: value for key, value in version["tags"].items() if key != change["tag"]}
        if change["after"] is not None:
            tags[change["tag"]] = change["after"]
        # A new dict: the one in the history's own entry must stay as it was registered.
        state["versions"][change["version"] - 1] = {**version, "tags": tags}
    else:
        raise ValueError(f"unknown action {entry['action']!r}")


def verify(state: State) -> int:
    """Walk the whole chain and replay it; the number of entries. Raises HistoryBroken naming the first entry that does
    not follow, or saying that the state is not what the history gives."""
    model = state["model"]
    replayed = empty_state(model)
    expected = first_hash(model)
    for number, entry in enumerate(state["history"], start=1):
        if entry.get("sequence") != number:
            raise _broken(model, number, f"it says that it is entry {entry.get('sequence')}")
        if entry.get("previous") != expected:
            raise _broken(model, number, f"expected previous {expected}, got {entry.get('previous')}")
        _check_hash(model, entry)
        try:
            apply(replayed, entry)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _broken(model, number, f"its change cannot be replayed: {error}") from error
        expected = entry["hash"]
    for part in ("versions", "aliases"):
        if replayed[part] != state[part]:
            raise HistoryBroken(
                f"the {part} of {model} are not what its history gives",
                where=f"registry/{model}.json",
                why=f"the history of {len(state['history'])} entries is whole, the {part} were changed beside it",
                fix=_FIX,
            )
    return len(state["history"])


def _check_hash(model: str, entry: Entry) -> None:
    found = entry_hash(entry)
    if entry.get("hash") != found:
        raise _broken(
            model, entry.get("sequence", "?"), f"expected hash {entry.get('hash')}, its content gives {found}"
        )


def _broken(model: str, number: object, why: str) -> HistoryBroken:
    return HistoryBroken(
        f"the history of {model} is broken at entry {number}",
        where=f"registry/{model}.json, entry {number}",
        why=why,
        fix=_FIX,
    )
