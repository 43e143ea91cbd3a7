"""One peer over the planted sets; runs in the peer's own environment, which has no Fairlead.

    ENVIRONMENT/bin/python planted_peers.py PEER FOLDER OUT.jsonl

FOLDER holds one folder for each set (reference.parquet, current.parquet, case.json). OUT gets a line for each set: what
was accused, by place. Each peer is given what its documentation recommends for two tables and the types of the columns,
and its own default thresholds:

- evidently: Report([DataDriftPreset(), DataSummaryPreset()], include_tests=True) on current and reference: every test
  that fails accuses its column. evidently-drift is DataDriftPreset() alone.
- great-expectations: it profiles nothing by itself since 1.0, so expectations are written from the reference by one
  rule: the set of columns, types, share of missing values up to twice that of the reference and 1 %, 99 % of the
  numbers between the reference's extremes, 99 % of the categories known, the row's number unique, the number of rows
  within a half and the double, the mean within a tenth of a deviation.
- whylogs: constraints generated from the reference's profile, and its drift scores (Kolmogorov-Smirnov and
  chi-squared) where they say drift.
- tensorflow-data-validation: schema inferred from the reference, anomalies of the current table, drift comparators with
  an infinity norm of 0.1 for categories and a Jensen-Shannon divergence of 0.1 for numbers.
- deepchecks: the suites data_integrity (current table) and train_test_validation (both tables): conditions that fail.
"""

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd

LABEL, TIME, ROW, ENTITY = "churned", "at", "row_id", "customer"
ROWS, BATCH = "(rows)", "(batch)"
Said = dict
Judge = Callable[[pd.DataFrame, pd.DataFrame, dict], Said]


def evidently(*, summary: bool = True) -> Judge:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    def judge(reference: pd.DataFrame, current: pd.DataFrame, facts: dict) -> Said:
        numeric = [n for n in facts["numeric"] if n in current and current[n].dtype != object and n in reference]
        words = [n for n in (*facts["categorical"], LABEL) if n in current and n in reference]
        kept = [*numeric, *words]
        reference, current = reference[kept].copy(), current[kept].copy()
        for name in words:
            reference[name], current[name] = reference[name].astype(str), current[name].astype(str)
        definition = DataDefinition(numerical_columns=numeric, categorical_columns=words)
        presets = [DataDriftPreset(), DataSummaryPreset()] if summary else [DataDriftPreset()]
        report = Report(presets, include_tests=True)
        result = report.run(
            Dataset.from_pandas(current, data_definition=definition),
            Dataset.from_pandas(reference, data_definition=definition),
        )
        said: Said = {}
        for test in result.dict()["tests"]:
            if str(test["status"]).upper().endswith("FAIL"):
                params = test.get("metric_config", {}).get("params", {})
                said.setdefault(params.get("column") or BATCH, str(test.get("description", ""))[:200])
        return said

    return judge


def great_expectations() -> Judge:
    import great_expectations as gx
    import great_expectations.expectations as gxe

    def rules(reference: pd.DataFrame, facts: dict) -> list:
        found = [
            gxe.ExpectTableColumnsToMatchSet(column_set=list(reference.columns), exact_match=True),
            gxe.ExpectColumnValuesToBeUnique(column=ROW),
        ]
        if facts["setting"] == "windows":
            rows = len(reference)
            found.append(gxe.ExpectTableRowCountToBeBetween(min_value=rows // 2, max_value=2 * rows))
        for name in reference.columns:
            missing = float(reference[name].isna().mean())
            found.append(gxe.ExpectColumnValuesToNotBeNull(column=name, mostly=max(0.0, 1 - max(0.01, 2 * missing))))
            if name in facts["numeric"]:
                values = reference[name].dropna().astype(float)
                margin = 0.1 * float(values.std())
                found.append(
                    gxe.ExpectColumnValuesToBeBetween(
                        column=name, min_value=float(values.min()), max_value=float(values.max()), mostly=0.99
                    )
                )
                found.append(
                    gxe.ExpectColumnMeanToBeBetween(
                        column=name, min_value=float(values.mean()) - margin, max_value=float(values.mean()) + margin
                    )
                )
            elif name in facts["categorical"]:
                known = sorted(set(reference[name].dropna()))
                found.append(gxe.ExpectColumnValuesToBeInSet(column=name, value_set=known, mostly=0.99))
        return found

    def judge(reference: pd.DataFrame, current: pd.DataFrame, facts: dict) -> Said:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        batch = (
            context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
        ).get_batch({"dataframe": current})
        suite = gx.ExpectationSuite(name="s", expectations=rules(reference, facts))
        said: Said = {}
        for result in batch.validate(suite).results:
            if result.success:
                continue
            config = result.expectation_config
            column = config.kwargs.get("column")
            details = (result.result.get("details") or {}).get("mismatched") or {}
            places = [column] if column else [*details.get("missing", []), *details.get("unexpected", [])] or [BATCH]
            for place in places:
                said.setdefault(place, str(config.type)[:200])
        return said

    return judge


def whylogs() -> Judge:
    import whylogs as why
    from whylogs.core.constraints import ConstraintsBuilder
    from whylogs.experimental.constraints_generation import generate_constraints_from_reference_profile
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    def judge(reference: pd.DataFrame, current: pd.DataFrame, facts: dict) -> Said:
        skip = (TIME, ROW, ENTITY)
        left = why.log(reference.drop(columns=[n for n in skip if n in reference])).view()
        right = why.log(current.drop(columns=[n for n in skip if n in current])).view()
        said: Said = dict.fromkeys(set(reference.columns) ^ set(current.columns), "only in one profile")
        builder = ConstraintsBuilder(right)
        for constraint in generate_constraints_from_reference_profile(reference_profile_view=left):
            if getattr(constraint, "column_name", None) not in said:
                builder.add_constraint(constraint)
        for report in builder.build().generate_constraints_report():
            if report.failed:
                found = [n for n in reference.columns if f"{n} " in report.name or report.name.endswith(n)]
                for name in found[:1] or [BATCH]:
                    said.setdefault(name, str(report.name)[:200])
        for name, score in calculate_drift_scores(right, left, with_thresholds=True).items():
            if score and str(score.get("drift_category", "")).upper() == "DRIFT":
                said.setdefault(name, f"{score.get('algorithm')}, p = {score.get('pvalue')}")
        return said

    return judge


def tensorflow_data_validation() -> Judge:
    import tensorflow_data_validation as tfdv

    def judge(reference: pd.DataFrame, current: pd.DataFrame, facts: dict) -> Said:
        reference, current = reference.drop(columns=[TIME]), current.drop(columns=[TIME])
        left = tfdv.generate_statistics_from_dataframe(reference)
        schema = tfdv.infer_schema(left)
        for feature in schema.feature:
            if feature.name in facts["categorical"] or feature.name == LABEL:
                feature.drift_comparator.infinity_norm.threshold = 0.1
            elif feature.name in facts["numeric"]:
                feature.drift_comparator.jensen_shannon_divergence.threshold = 0.1
        right = tfdv.generate_statistics_from_dataframe(current)
        found = tfdv.validate_statistics(right, schema, previous_statistics=left)
        return {name or BATCH: info.description[:200] for name, info in found.anomaly_info.items()}

    return judge


def deepchecks() -> Judge:
    from deepchecks.tabular import Dataset
    from deepchecks.tabular.suites import data_integrity, train_test_validation

    def judge(reference: pd.DataFrame, current: pd.DataFrame, facts: dict) -> Said:
        def dataset(table: pd.DataFrame) -> Dataset:
            table = table[table[LABEL].notna()].copy()
            table[LABEL] = table[LABEL].astype(int)
            return Dataset(
                table, label=LABEL, cat_features=[n for n in facts["categorical"] if n in table],
                datetime_name=TIME if TIME in table else None, index_name=ROW if ROW in table else None,
            )  # fmt: skip

        left, right = dataset(reference), dataset(current)
        results = [
            data_integrity().run(right),
            train_test_validation().run(left, right),
        ]
        names = sorted({*reference.columns, *current.columns}, key=len, reverse=True)
        said: Said = {}
        for result in results:
            for check in result.results:
                for condition in getattr(check, "conditions_results", []):
                    if condition.is_pass():
                        continue
                    details = str(condition.details)
                    places = [n for n in names if f"'{n}'" in details or f'"{n}"' in details]
                    rows = "Duplicates" in type(check.check).__name__ or "Samples" in type(check.check).__name__
                    for place in places or [
                        ROWS if rows else LABEL if "Label" in type(check.check).__name__ else BATCH
                    ]:
                        said.setdefault(place, f"{type(check.check).__name__}: {details}"[:200])
        return said

    return judge


PEERS = {
    "evidently": evidently,
    "evidently-drift": partial(evidently, summary=False),
    "great-expectations": great_expectations,
    "whylogs": whylogs,
    "tensorflow-data-validation": tensorflow_data_validation,
    "deepchecks": deepchecks,
}


def main() -> None:
    """Write a line for the peer's version, then one for each set as soon as it is done."""
    warnings.filterwarnings("ignore")
    peer, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    judge = PEERS[peer]()
    with out.open("w") as file:
        file.write(json.dumps({"version": version(peer.removesuffix("-drift"))}) + "\n")
        for place in sorted(path for path in folder.iterdir() if path.is_dir()):
            facts = json.loads((place / "case.json").read_text())
            reference, current = (pd.read_parquet(place / f"{n}.parquet") for n in ("reference", "current"))
            try:
                said = judge(reference, current, facts)
            except Exception as error:
                said = {BATCH: f"{type(error).__name__}: {error}"[:200]}
            file.write(json.dumps({"case": int(place.name), "said": said}) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
