"""Versions, aliases, tags: what each call changes, and what it refuses."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fairlead.errors import HistoryBroken, IntegrityError, RegistryConflict, UsageError, VersionNotFound
from fairlead.registry.registry import MAX_EVIDENCE_BYTES, Registry, list_models
from fairlead.store import Store, open_store


class FixedClock:
    """A clock that stands still and never waits."""

    def now(self) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0


def digest(number: int) -> str:
    return f"sha256:{number:064x}"[: 7 + 64].replace("0", "a", 20)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store("store", tmp_path)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, "flights", FixedClock())


def register(registry: Registry, number: int) -> int:
    made = registry.register(
        f"bundles/flights/{number}", digest(number), f"run-{number}", {"auc": 0.7}, "ada", "gates passed"
    )
    return made.number


def test_versions_count_from_one(registry: Registry) -> None:
    assert [register(registry, number) for number in (1, 2, 3)] == [1, 2, 3]
    first = registry.versions()[0]
    assert (first.model, first.digest, first.run, first.facts) == ("flights", digest(1), "run-1", {"auc": 0.7})
    assert first.registered_at == "2026-01-02T03:04:05+00:00"


def test_registering_the_same_run_and_digest_again_gives_the_same_version(registry: Registry) -> None:
    assert register(registry, 1) == register(registry, 1) == 1
    assert len(registry.history()) == 1


def test_the_same_digest_of_another_run_is_another_version(registry: Registry) -> None:
    register(registry, 1)
    again = registry.register("bundles/flights/1", digest(1), "run-other", {}, "ada", "repeated")
    assert again.number == 2
    assert registry.get(digest(1)).number == 2


def test_a_version_is_found_by_number_alias_and_digest_prefix(registry: Registry) -> None:
    register(registry, 1)
    register(registry, 2)
    registry.set_alias("champion", 2, "ada", "the only good one")
    second = registry.get(2)
    for ref in ("2", "v2", "champion", digest(2), digest(2).removeprefix("sha256:")):
        assert registry.get(ref) == second


@pytest.mark.parametrize("ref", ["0", "3", "-1", "candidate", "sha256:", "sha256:ffffff", "abc", "", "aaaaaaaa", "²"])
def test_what_names_no_version_or_several_is_refused(registry: Registry, ref: str) -> None:
    register(registry, 1)
    register(registry, 2)
    with pytest.raises(VersionNotFound, match="flights"):
        registry.get(ref)


def test_every_change_leaves_one_entry_with_who_why_and_evidence(registry: Registry) -> None:
    register(registry, 1)
    registry.set_alias("candidate", 1, "engine", "rollout r1 began", {"rollout": "r1"})
    registry.set_tag(1, "owner", "team-a", "ada", "handed over")
    registry.set_alias("candidate", None, "engine", "rollout r1 ended")
    entries = registry.history()
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4]
    assert [(entry.action, entry.actor) for entry in entries] == [
        *(("register", "ada"), ("alias", "engine"), ("tag", "ada"), ("alias", "engine")),
    ]
    assert entries[1].evidence == {"rollout": "r1"}
    assert entries[1].change == {"alias": "candidate", "before": None, "after": 1}
    assert registry.aliases() == {}
    assert registry.get(1).tags == {"owner": "team-a"}
    assert registry.verify() == 4


def test_removing_a_tag_leaves_the_others(registry: Registry) -> None:
    register(registry, 1)
    registry.set_tag(1, "a", "1", "ada", "x")
    registry.set_tag(1, "b", "2", "ada", "x")
    registry.set_tag(1, "a", None, "ada", "x")
    assert registry.get(1).tags == {"b": "2"}
    assert registry.verify() == 4


def test_setting_an_alias_where_it_points_already_writes_nothing(registry: Registry) -> None:
    register(registry, 1)
    registry.set_alias("champion", 1, "ada", "bootstrap", expected=None)
    registry.set_alias("champion", 1, "ada", "bootstrap, told again after a crash", expected=None)
    assert len(registry.history()) == 2


def test_an_alias_that_moved_meanwhile_is_not_moved_again(registry: Registry) -> None:
    for number in (1, 2, 3):
        register(registry, number)
    registry.set_alias("champion", 2, "ada", "first")
    with pytest.raises(RegistryConflict, match="version 2, not version 1"):
        registry.set_alias("champion", 3, "engine", "rollout", expected=1)
    with pytest.raises(RegistryConflict, match="not unset"):
        registry.set_alias("champion", 3, "engine", "bootstrap", expected=None)
    assert registry.aliases() == {"champion": 2}
    assert len(registry.history()) == 4


def test_an_alias_cannot_name_a_version_that_is_not_there(registry: Registry) -> None:
    register(registry, 1)
    with pytest.raises(VersionNotFound, match="no version 7"):
        registry.set_alias("champion", 7, "ada", "typo")
    with pytest.raises(UsageError, match="champoin"):
        registry.set_alias("champoin", 1, "ada", "typo")


def test_a_change_without_actor_or_reason_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError):
        registry.register("u", digest(1), "r", {}, " ", "why")
    with pytest.raises(UsageError):
        registry.register("u", digest(1), "r", {}, "ada", "")
    assert registry.versions() == ()


def test_a_digest_that_is_none_is_refused(registry: Registry) -> None:
    for wrong in ("", "md5:abc", "sha256:xyz", f"sha256:{'A' * 64}"):
        with pytest.raises(IntegrityError):
            registry.register("u", wrong, "r", {}, "ada", "why")


def test_evidence_that_is_too_large_or_no_json_is_refused(registry: Registry) -> None:
    register(registry, 1)
    with pytest.raises(IntegrityError, match="bytes long"):
        registry.set_alias("champion", 1, "ada", "x", {"blob": "x" * MAX_EVIDENCE_BYTES})
    with pytest.raises(IntegrityError, match="JSON"):
        registry.set_alias("champion", 1, "ada", "x", {"thing": object()})
    assert registry.aliases() == {}


def test_a_name_that_would_lead_elsewhere_is_no_model(store: Store) -> None:
    for name in ("../x", "a/b", "", "A", "a\n", "a" * 100):
        with pytest.raises(UsageError):
            Registry(store, name)


def test_models_are_listed(store: Store, registry: Registry) -> None:
    assert list_models(store) == []
    register(registry, 1)
    register(Registry(store, "digits"), 1)
    assert list_models(store) == ["digits", "flights"]


def edit(store: Store, change: str) -> None:
    """Change the stored object behind the registry's back."""
    state = json.loads(store.read("registry/flights.json"))
    exec_edit = {
        "entry edited": lambda: state["history"][1].update(actor="mallory"),
        "entry dropped": lambda: state["history"].pop(1),
        "entries swapped": lambda: state["history"].insert(1, state["history"].pop(2)),
        "first entry dropped": lambda: state["history"].pop(0),
        "alias moved": lambda: state["aliases"].update(champion=1),
        "version edited": lambda: state["versions"][0].update(digest=digest(9)),
        "version dropped": lambda: state["versions"].pop(),
    }
    exec_edit[change]()
    store.write("registry/flights.json", json.dumps(state).encode())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("entry edited", "entry 2"),
        ("entry dropped", "entry 2"),
        ("entries swapped", "entry 2"),
        ("first entry dropped", "entry 1"),
        ("alias moved", "aliases"),
        ("version edited", "versions"),
        ("version dropped", "versions"),
    ],
)
def test_a_history_that_was_edited_is_named(registry: Registry, store: Store, change: str, told: str) -> None:
    register(registry, 1)
    register(registry, 2)
    registry.set_alias("champion", 2, "ada", "good")
    assert registry.verify() == 3
    edit(store, change)
    with pytest.raises(HistoryBroken, match=told):
        registry.verify()


def test_nothing_is_appended_to_a_broken_end(registry: Registry, store: Store) -> None:
    register(registry, 1)
    register(registry, 2)
    edit(store, "entry edited")
    before = store.read("registry/flights.json")
    with pytest.raises(HistoryBroken, match="entry 2"):
        register(registry, 3)
    assert store.read("registry/flights.json") == before


def test_the_history_of_one_model_is_not_that_of_another(registry: Registry, store: Store) -> None:
    register(registry, 1)
    state = json.loads(store.read("registry/flights.json"))
    state["model"] = "digits"
    store.write("registry/digits.json", json.dumps(state).encode())
    with pytest.raises(HistoryBroken, match="entry 1"):
        Registry(store, "digits").verify()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b'{"format":1,"model":"digits"}', b"\xff"])
def test_an_object_that_is_no_registry_is_refused(registry: Registry, store: Store, content: bytes) -> None:
    store.write("registry/flights.json", content)
    with pytest.raises(IntegrityError):
        registry.versions()
    with pytest.raises(IntegrityError):
        register(registry, 1)
    assert store.read("registry/flights.json") == content


def test_a_newer_format_is_refused(registry: Registry, store: Store) -> None:
    register(registry, 1)
    state = json.loads(store.read("registry/flights.json")) | {"format": 2}
    store.write("registry/flights.json", json.dumps(state).encode())
    with pytest.raises(IntegrityError, match="format 2"):
        registry.versions()
