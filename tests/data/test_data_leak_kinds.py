"""Each rule of the leak scan finds what it is for, and honest columns that look a little like it are left alone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.leaks import scan_leaks
from fairlead.data.leaks.fitted import Moments, encoded_label, filled_before_split, scaled_before_split
from fairlead.data.leaks.repeats import Repeats
from fairlead.data.leaks.rows import entity_overlap, find_twins
from fairlead.data.prepare import PrepareResult, prepare_data
from fairlead.errors import LeakFound
from fairlead.records.data import LeakFinding
from fairlead.spec.features import Features
from fairlead.spec.project import Project

ROWS = 3000


def base_table(rng: np.random.Generator, rows: int = ROWS) -> dict[str, object]:
    amount = rng.lognormal(3, 1, rows)
    return {
        "amount": amount,
        "visits": rng.poisson(3, rows),
        "plan": rng.choice(["basic", "plus", "pro"], rows),
        "score": rng.normal(size=rows),
        "customer": np.array([f"c{i}" for i in rng.integers(0, rows // 3, rows)]),
        "at": np.datetime64("2024-01-01", "us") + np.sort(rng.integers(0, 100 * 86_400, rows)).astype("timedelta64[s]"),
        "churned": rng.random(rows) < 1 / (1 + np.exp(1.5 - 0.4 * np.log(amount))),
    }


def prepare(folder: Path, table: Mapping[str, object], numeric: list[str], **data: object) -> PrepareResult:
    (folder / "raw").mkdir(exist_ok=True)
    pq.write_table(pa.table(dict(table)), folder / "raw" / "rows.parquet")
    project = Project.model_validate(
        {
            "project": "churn",
            "data": {"source": "raw", "label": {"column": "churned"}, **data},
            "features": {"numeric": ["amount", "visits", "score", *numeric], "categorical": ["plan"]},
        }
    )
    return prepare_data(project, folder, folder / "out")


def kinds(findings: tuple[LeakFinding, ...]) -> set[tuple[str, str, bool]]:
    return {(finding.feature, finding.kind, finding.severe) for finding in findings}


def scan(table: Mapping[str, object], labels: np.ndarray, features: dict[str, object]) -> set[tuple[str, str, bool]]:
    found = scan_leaks(
        pa.table(dict(table)), labels, Features.model_validate(features), "binary", missing={}, max_auc=0.85, allow=()
    )
    return kinds(found)


def test_a_date_that_only_one_outcome_has_is_severe_though_it_is_rare() -> None:
    rng = np.random.default_rng(7)
    labels = (rng.random(ROWS) < 0.3).astype(np.int64)
    refund = pa.array(rng.gamma(2, 20, ROWS), mask=~((labels == 1) & (rng.random(ROWS) < 0.2)))
    often = pa.array(rng.gamma(2, 20, ROWS), mask=rng.random(ROWS) < np.where(labels == 1, 0.4, 0.7))
    found = scan({"refund": refund, "often": often}, labels, {"numeric": ["refund", "often"]})
    assert found == {("refund", "written by the outcome", True)}


def test_two_halves_of_a_key_are_found_together_and_two_honest_features_are_not() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, ROWS)
    first = rng.integers(0, 2, ROWS)
    halves = {"a": np.array(["u", "v"])[first], "b": np.array(["s", "t"])[labels ^ first]}
    assert {name for name, kind, severe in scan(halves, labels, {"categorical": ["a", "b"]}) if severe} <= {"a", "b"}
    assert scan(halves, labels, {"categorical": ["a", "b"]})
    # Each alone has an AUC of 0.83 and both together one of 0.91: honest, and not accused as a pair.
    honest = {name: labels * 1.35 + rng.normal(size=ROWS) for name in ("a", "b")}
    found = scan(honest, labels, {"numeric": ["a", "b"]})
    assert not {kind for _, kind, severe in found if severe}


def test_identifiers_are_told_and_amounts_that_are_all_different_are_not() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, ROWS)
    table = {
        "order": rng.permutation(ROWS) + 5_000,
        "token": np.array([f"t{i}" for i in range(ROWS)]),
        "income": rng.integers(10_000, 5_000_000, ROWS),
        "city": np.array([f"city{i}" for i in rng.integers(0, 900, ROWS)]),
    }
    found = scan(table, labels, {"numeric": ["order", "income"], "categorical": ["token", "city"]})
    assert found == {("order", "identifier", False), ("token", "identifier", False)}


def test_values_that_stand_twice_are_no_identifier_though_a_sample_seldom_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.data.leaks.collect.TRAIN_ROWS", 3000)
    rows, rng = 120_000, np.random.default_rng(7)
    table = base_table(rng, rows)
    twice = rng.permutation(np.repeat(np.arange(60_000), 2))
    table |= {"twice": twice, "order": rng.permutation(rows), "pair": np.char.add("p", twice.astype(str))}
    table["token"] = np.char.add("t", np.arange(rows).astype(str))
    features = {"numeric": ["amount", "twice", "order"], "categorical": ["pair", "token", "plan"]}
    (tmp_path / "raw").mkdir()
    pq.write_table(pa.table(table), tmp_path / "raw" / "rows.parquet")
    data = {"source": "raw", "label": {"column": "churned"}, "time": "at", "split": {"by": "time"}}
    project = Project.model_validate({"project": "churn", "data": data, "features": features})
    found = prepare_data(project, tmp_path, tmp_path / "out").leaks
    assert {finding.feature for finding in found if finding.kind == "identifier"} == {"order", "token"}


def test_repeats_are_counted_over_all_rows_and_only_as_long_as_it_matters() -> None:
    rows = 200_000
    columns = {
        "own": np.arange(rows),
        "twice": np.arange(rows) // 2,
        "late": np.concatenate([np.arange(rows // 2), np.zeros(rows // 2, np.int64)]),
        "few": [f"city {i % 50}" for i in range(rows)],
        "share": np.arange(rows) / rows,
    }
    repeats = Repeats(columns, rows)
    for batch in pa.table(columns).to_batches(max_chunksize=20_000):
        repeats.take(batch)
    assert repeats.names() == {"twice", "late", "few"}
    assert "own" in repeats._sketches
    assert "few" not in repeats._sketches, "known after the first batch"


def test_a_running_number_is_told_in_a_split_by_time_only(tmp_path: Path) -> None:
    table = base_table(np.random.default_rng(7))
    table["sequence"] = np.arange(ROWS) * 2.0
    by_time = prepare(tmp_path, table, ["sequence"], time="at", split={"by": "time"})
    assert kinds(by_time.leaks) == {("sequence", "clock", False)}
    assert any("sequence" in warning for warning in by_time.warnings)
    assert prepare(tmp_path, table, ["sequence"], time="at").leaks == ()


def test_what_is_known_after_the_rows_time_is_refused_by_its_declared_column(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    table = base_table(rng)
    late = rng.random(ROWS) < 0.01
    table["survey"] = rng.normal(size=ROWS)
    table["survey_at"] = table["at"] + np.where(late, 3_600_000_000, -3_600_000_000).astype("timedelta64[us]")  # type: ignore[operator]
    declared = {"time": "at", "leaks": {"known_at": {"survey": "survey_at"}}}
    with pytest.raises(LeakFound, match=r"1 feature knows the answer: survey") as caught:
        prepare(tmp_path, table, ["survey"], **declared)
    assert "survey_at is later than at in" in str(caught.value.why)
    table["survey_at"] = table["at"]
    assert prepare(tmp_path, table, ["survey"], **declared).leaks == ()


def test_entities_on_both_sides_are_refused_when_they_carry_the_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    table = base_table(rng)
    told = prepare(tmp_path, table, [], entity="customer")
    assert kinds(told.leaks) == {("customer", "entity on both sides", False)}
    _, inverse = np.unique(table["customer"], return_inverse=True)  # type: ignore[call-overload]
    table["churned"] = (rng.random(inverse.max() + 1) < 0.4)[inverse]
    with pytest.raises(LeakFound, match=r"customer"):
        prepare(tmp_path, table, [], entity="customer")
    for by in ("group", "group+stratified"):
        assert prepare(tmp_path, table, [], entity="customer", split={"by": by}).leaks == ()
    allowed = prepare(
        tmp_path, table, [], entity="customer", leaks={"allow": {"customer": "returning ones are the aim"}}
    )
    assert [leak.reason for leak in allowed.leaks if leak.severe] == ["returning ones are the aim"]


def test_copies_under_another_group_are_refused_and_coarse_rows_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    table = base_table(rng)
    take = np.concatenate([np.arange(ROWS), rng.integers(0, ROWS, ROWS // 5)])
    copied: dict[str, object] = {name: np.asarray(values)[take] for name, values in table.items()}
    copied["customer"] = np.array([f"n{i}" for i in range(len(take))])
    with pytest.raises(LeakFound, match=r"\(rows\)"):
        prepare(tmp_path, copied, [], entity="customer", split={"by": "group"})
    coarse = [pa.array(rng.integers(0, 3, ROWS)) for _ in range(3)]
    assert find_twins(coarse, [column.slice(0, 500) for column in coarse]).exact is None


def test_near_copies_are_told_and_kept_on_one_side_when_declared(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    table = base_table(rng)
    take = np.concatenate([np.arange(ROWS), rng.integers(0, ROWS, ROWS // 5)])
    copied: dict[str, object] = {name: np.asarray(values)[take] for name, values in table.items()}
    copied["amount"] = np.where(np.arange(len(take)) < ROWS, copied["amount"], np.asarray(copied["amount"]) * 1.7)
    told = prepare(tmp_path, copied, [])
    assert {(f, k) for f, k, _ in kinds(told.leaks)} == {("(rows)", "near twins across the split")}
    apart = prepare(tmp_path, copied, [], near_duplicates="keep_together")
    assert apart.leaks == ()
    total = sum(apart.manifest.rows(split) for split in ("train", "validation", "test"))
    assert total == len(take)


@pytest.mark.parametrize("seed", range(10))
def test_rows_that_are_alike_but_for_their_one_fine_column_are_no_near_twins(seed: int) -> None:
    """Coarse columns agree by coincidence: that says nothing of how often two rows agree in the fine one."""
    rng = np.random.default_rng(seed)
    late = rng.random(4000) < 0.3
    rare = pa.array(rng.gamma(2, 3, 4000), mask=~late | (rng.random(4000) < 0.5))
    towns = pa.array([f"town {i}" for i in rng.integers(0, 20, 4000)])
    columns = [pa.array(rng.normal(size=4000)), rare, towns, pa.array(late)]
    found = find_twins([c.slice(0, 2000) for c in columns], [c.slice(2000) for c in columns])
    assert not found.exact
    assert not found.near


def test_rows_differ_in_case_and_rounding_and_are_near_twins_all_the_same() -> None:
    rng = np.random.default_rng(7)
    words = [f"Some Place No. {i}" for i in range(400)]
    numbers, others = rng.normal(size=400), rng.normal(size=400)
    train = [pa.array(words), pa.array(numbers), pa.array(others)]
    other = [
        pa.array([f"some  place, no {i}" for i in range(100)]),
        pa.array(numbers[:100] * (1 + 1e-6)),
        pa.array(rng.normal(size=100)),
    ]
    found = find_twins(train, other)
    assert found.exact == 0
    assert found.near == pytest.approx(1.0, abs=0.02)


def moments(values: np.ndarray) -> Moments:
    result = Moments()
    for part in np.array_split(values, 7):
        result.add(part)
    return result


def test_scaling_and_filling_before_the_split_are_told_and_the_same_columns_from_elsewhere_are_not() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(3, 2, 5000)
    scaled = (values - values.mean()) / values.std()
    assert "scaled before the split" in scaled_before_split(moments(scaled), moments(scaled[:3000]), scaled[:3000])
    ranged = (values - values.min()) / (values.max() - values.min())
    order = np.argsort(ranged)[::-1]  # the extremes must not both be in training
    assert "scaled before" in scaled_before_split(moments(ranged), moments(ranged[order][10:3000]), ranged[order][10:])
    gone = rng.random(5000) < 0.1
    filled = np.where(gone, values[~gone].mean(), values)
    assert "filled before the split" in filled_before_split(moments(filled), moments(filled[:3000]), filled[:3000])
    elsewhere = np.where(gone, values[~gone].mean() + 0.001, values)
    for seed in range(200):
        fresh = np.random.default_rng(seed).normal(size=2000)
        assert scaled_before_split(moments(fresh), moments(fresh[:1200]), fresh[:1200]) == ""
        assert filled_before_split(moments(fresh), moments(fresh[:1200]), fresh[:1200]) == ""
    assert filled_before_split(moments(elsewhere), moments(elsewhere[:3000]), elsewhere[:3000]) == ""
    assert moments(values).std() == pytest.approx(values.std(), rel=1e-12)


@pytest.mark.parametrize("prior", [0.0, 10.0])
def test_an_encoding_with_the_rows_own_label_is_found_and_one_from_other_folds_is_not(prior: float) -> None:
    rng = np.random.default_rng(7)
    rows = 4000
    shops = rng.integers(0, 300, rows)
    labels = (rng.random(rows) < 0.2 + 0.3 * (shops % 7 == 0)).astype(float)
    train = rng.random(rows) < 0.6

    def encode(use: np.ndarray) -> np.ndarray:
        counts = np.bincount(shops[use], minlength=300)
        sums = np.bincount(shops[use], labels[use], 300) + prior * labels[use].mean()
        return np.asarray((sums / np.maximum(counts + prior, 1e-9))[shops])

    assert "encoded without folds" in encoded_label(encode(train), labels, train)
    assert "encoded without folds" in encoded_label(encode(np.ones(rows, bool)), labels, train)
    fold = rng.integers(0, 5, rows)
    by_fold = np.choose(fold, [encode(fold != k) for k in range(5)])
    assert encoded_label(by_fold, labels, train) == ""
    earlier = np.arange(rows) < 1500
    assert encoded_label(encode(earlier)[1500:], labels[1500:], train[1500:]) == ""


def test_an_entity_without_a_label_of_its_own_scores_like_chance() -> None:
    accused = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        groups = rng.integers(0, 400, 2000).astype(np.uint64)
        labels, sides = rng.integers(0, 2, 2000), rng.integers(0, 3, 2000)
        overlap = entity_overlap(groups, labels, sides, 2, "binary", 0.85)
        assert overlap.share > 0.7
        accused += overlap.score > 0.5
    assert accused <= 1


def test_features_without_any_association_are_accused_in_fewer_than_one_of_a_thousand_scans() -> None:
    """60 scans of 12 columns and 66 pairs at a level of 0.001: at most 1 is more than chance allows in 99.8 %."""
    accused = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = int(rng.integers(30, 400))
        table: dict[str, object] = {f"n{i}": rng.standard_t(3, rows) for i in range(6)}
        table |= {f"i{i}": rng.integers(0, 5, rows) for i in range(3)}
        table |= {f"c{i}": rng.choice(list("abcdef"), rows) for i in range(3)}
        table["n0"] = pa.array(np.asarray(table["n0"]), mask=rng.random(rows) < 0.4)
        names = list(table)
        labels = rng.permutation(np.arange(rows) < rows * 0.2).astype(int)
        found = scan(table, labels, {"numeric": names[:9], "categorical": names[9:]})
        accused += bool({kind for _, kind, severe in found if severe})
    assert accused <= 1
