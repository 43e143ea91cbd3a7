"""Backwards from a version, forwards from a source."""

from dataclasses import replace
from pathlib import Path

import pytest

from fairlead.bundle.bundle import publish
from fairlead.errors import IntegrityError
from fairlead.records.codec import to_json
from fairlead.records.data import DatasetManifest, SourceFile
from fairlead.records.lineage import StepRecord
from fairlead.records.registry import Version
from fairlead.registry.environment import code_version, environment_facts
from fairlead.registry.lineage import backward, forward, steps, write_step
from fairlead.registry.registry import Registry
from fairlead.store import Store, open_store
from fairlead.testing.bundles import sealed_bundle


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store("store", tmp_path)


def step(run: str, name: str, minute: int, reads: dict[str, list[str]], writes: dict[str, list[str]]) -> StepRecord:
    return StepRecord(
        run=run,
        step=name,
        project="flights",
        started_at=f"2026-01-01T00:{minute:02}:00+00:00",
        ended_at=f"2026-01-01T00:{minute:02}:30+00:00",
        status="succeeded",
        reads=reads,
        writes=writes,
        code_version="fairlead 0.1.0+abc",
        config_sha256="c" * 64,
        environment={"python": "3.11"},
        seed=7,
    )


def run_of(store: Store, tmp_path: Path, run: str, months: list[int], minute: int, seed: int) -> Version:
    """One run of the pipeline, as its steps record it."""
    sources = [f"data/{month:02}.parquet" for month in months]
    contents = [f"{month:064x}" for month in months]
    fingerprint, draft = f"fp-{run}", f"draft-{run}"
    manifest = sealed_bundle(tmp_path / run, seed=seed, run=run)
    uri = publish(store, tmp_path / run)
    raw = {"source": sources, "source_sha256": contents}
    write_step(store, step(run, "prepare", minute, raw, {"prepared": [fingerprint]}))
    write_step(store, step(run, "train", minute + 1, {"prepared": [fingerprint]}, {"draft": [draft]}))
    judged = {"prepared": [fingerprint], "draft": [draft]}
    write_step(store, step(run, "evaluate", minute + 2, judged, {"bundle": [manifest.digest]}))
    write_step(store, step(run, "register", minute + 3, {"bundle": [manifest.digest]}, {"version": [run]}))
    return Registry(store, "flights").register(uri, manifest.digest, run, {}, "ada", "gates passed")


def test_a_version_leads_back_to_its_sources_code_configuration_and_seed(store: Store, tmp_path: Path) -> None:
    run_of(store, tmp_path, "run-a", [1, 2], 0, seed=1)
    second = run_of(store, tmp_path, "run-b", [1, 2, 3], 10, seed=2)
    found = backward(store, second)
    assert [record.step for record in found.steps] == ["prepare", "train", "evaluate", "register"]
    assert {record.run for record in found.steps} == {"run-b"}
    assert [source.uri for source in found.sources] == ["data/01.parquet", "data/02.parquet", "data/03.parquet"]
    assert [source.sha256 for source in found.sources] == [f"{month:064x}" for month in (1, 2, 3)]
    # These come from the bundle itself, whose digest covers them.
    assert (found.data_fingerprint, found.code_version, found.seed, found.run) == ("f" * 64, "test", 2, "run-b")
    assert found.missing == ()


def test_a_source_leads_forward_to_every_version_made_from_it(store: Store, tmp_path: Path) -> None:
    run_of(store, tmp_path, "run-a", [1, 2], 0, seed=1)
    run_of(store, tmp_path, "run-b", [2, 3], 10, seed=2)
    for source, expected in (
        *(("data/01.parquet", [1]), ("data/02.parquet", [1, 2]), ("data/03.parquet", [2]), ("data/04.parquet", [])),
        *((f"{2:064x}", [1, 2]), (f"sha256:{3:064x}", [2]), ("f" * 64, []), ("", [])),
    ):
        assert [version.number for version in forward(store, source)] == expected, source


def test_prepared_data_that_a_later_run_reused_still_leads_back(store: Store, tmp_path: Path) -> None:
    first = run_of(store, tmp_path, "run-a", [1], 0, seed=1)
    manifest = sealed_bundle(tmp_path / "again", seed=5, run="run-c")
    write_step(store, step("run-c", "train", 20, {"prepared": ["fp-run-a"]}, {"draft": ["draft-c"]}))
    write_step(store, step("run-c", "evaluate", 21, {"draft": ["draft-c"]}, {"bundle": [manifest.digest]}))
    uri = publish(store, tmp_path / "again")
    third = Registry(store, "flights").register(uri, manifest.digest, "run-c", {}, "ada", "x")
    assert [(record.run, record.step) for record in backward(store, third).steps] == [
        *(("run-a", "prepare"), ("run-c", "train"), ("run-c", "evaluate")),
    ]
    assert forward(store, "data/01.parquet") == (first, third)


def test_a_bundle_that_no_step_wrote_is_followed_by_what_it_says_itself(store: Store, tmp_path: Path) -> None:
    run_of(store, tmp_path, "run-a", [1, 2], 0, seed=1)
    # The bundles of these tests say that their data is "ffff...".
    write_step(store, step("run-z", "prepare", 30, {"source": ["data/09.parquet"]}, {"prepared": ["f" * 64]}))
    manifest = sealed_bundle(tmp_path / "reexported", seed=8, run="run-z")
    uri = publish(store, tmp_path / "reexported")
    facts = {"data_fingerprint": "f" * 64}
    version = Registry(store, "flights").register(uri, manifest.digest, "by hand", facts, "ada", "re-exported")
    found = backward(store, version)
    assert [(record.run, record.step) for record in found.steps] == [("run-z", "prepare")]
    assert [source.uri for source in found.sources] == ["data/09.parquet"]
    assert found.missing == (f"no step in the store wrote the bundle {manifest.digest}",)
    assert forward(store, "data/09.parquet") == (version,)


def test_failed_steps_lead_nowhere(store: Store, tmp_path: Path) -> None:
    version = run_of(store, tmp_path, "run-a", [1], 0, seed=1)
    for record in steps(store, "flights"):
        if record.step == "evaluate":
            write_step(store, replace(record, status="failed"))
    assert forward(store, "data/01.parquet") == ()
    found = backward(store, version)
    assert any(version.digest in link for link in found.missing)


def test_the_sources_come_from_the_prepared_data_itself_when_it_is_there(store: Store, tmp_path: Path) -> None:
    version = run_of(store, tmp_path, "run-a", [1], 0, seed=1)
    source = SourceFile("data/01.parquet", 10, 2, "1" * 64)
    empty: dict[str, str] = {}
    manifest = DatasetManifest(
        *("f" * 64, "flights", "binary", "late", ("no", "yes"), empty, ("a",), (), (source,)),
        *("random", empty, 2, 0, 0, 0, "t"),
    )
    store.write(f"prepared/{'f' * 64}/manifest.json", to_json(manifest))
    assert backward(store, version).sources == (source,)


def test_a_version_whose_bundle_is_gone_is_told_from_its_steps(store: Store, tmp_path: Path) -> None:
    version = run_of(store, tmp_path, "run-a", [1], 0, seed=1)
    for key in store.list("bundles/"):
        store.delete(key)
    found = backward(store, version)
    assert (found.code_version, found.config_sha256, found.seed) == ("fairlead 0.1.0+abc", "c" * 64, 7)
    assert found.data_fingerprint == "fp-run-a"
    assert any("bundle" in link for link in found.missing)


def test_a_lineage_that_was_edited_in_the_store_is_not_believed(store: Store, tmp_path: Path) -> None:
    version = run_of(store, tmp_path, "run-a", [1], 0, seed=1)
    key = f"{version.bundle_uri}/lineage.json"
    store.write(key, store.read(key).replace(b'"seed": 1', b'"seed": 9'))
    found = backward(store, version)
    assert found.seed == 7  # the training step's
    assert any("lineage.json" in link for link in found.missing)


def test_nothing_known_is_said_and_no_error(store: Store) -> None:
    version = Version("flights", 1, "sha256:" + "a" * 64, "bundles/flights/x", "run", "", "ada", "why")
    found = backward(store, version)
    assert found.steps == ()
    assert len(found.missing) == 3


def test_a_damaged_record_is_named(store: Store) -> None:
    store.write("steps/flights/run/train.json", b'{"run": "x"}')
    with pytest.raises(IntegrityError, match=r"steps/flights/run/train\.json"):
        steps(store, "flights")


def test_the_environment_names_what_computes() -> None:
    facts = environment_facts()
    assert {"python", "platform", "numpy", "onnxruntime"} <= set(facts)
    facts["numpy"] = "changed"
    assert environment_facts()["numpy"] != "changed"


def test_the_code_version_follows_the_projects_python(tmp_path: Path) -> None:
    bare = code_version(tmp_path)
    assert bare == code_version()
    (tmp_path / "model.py").write_text("x = 1\n")
    first = code_version(tmp_path)
    assert first.startswith(bare)
    assert first != bare
    (tmp_path / "model.py").write_text("x = 2\n")
    assert code_version(tmp_path) != first
    (tmp_path / ".hidden").mkdir()
    second = code_version(tmp_path)
    (tmp_path / ".hidden" / "y.py").write_text("y = 1\n")
    assert code_version(tmp_path) == second
