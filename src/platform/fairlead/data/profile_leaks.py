"""The leak scan of a profile: the rules of `fairlead data split` on a bounded part of the rows, before any split is
written.

The rows take sides by the rule of the project's split; where that leaves too little to train on (a set that is all
later than the training period), all of them count as training rows. What needs every row (encodings with the own label,
scaling before the split, twins) is found where every row was looked at, and seldom otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checker
from fairlead.data.first_pass import UNLABELLED, FirstPass, Plan
from fairlead.data.leak_sample import LeakSample, draw_sample
from fairlead.data.leaks import SecondLook
from fairlead.data.schema import ColumnRule, Schema
from fairlead.data.sources import Source
from fairlead.data.splits import LEFT_OUT
from fairlead.data.summary.stream import under_way
from fairlead.data.validation import check_columns
from fairlead.dataset.files import LABEL
from fairlead.errors import EmptyData, LabelProblem, SchemaMismatch, SplitTooSmall
from fairlead.features.kinds import kind_of
from fairlead.records.data import SPLITS, LeakFinding
from fairlead.spec.data import Balance
from fairlead.spec.evaluate import Evaluate
from fairlead.spec.project import Project

_PART_OF_MEMORY = 8


@dataclass(frozen=True)
class Scan:
    """What a scan found, worst first. `rows` were looked at, `training` of them as training rows; `whole`: they are all
    that keep to the schema. `not_done` says why there was no scan."""

    findings: tuple[LeakFinding, ...] = ()
    rows: int = 0
    training: int = 0
    whole: bool = False
    not_done: str = ""


def scan_source(project: Project, source: Source, schema: Schema | None, memory_bytes: int) -> Scan:
    """Scan the features of `source`. Raises SourceUnreadable; what makes a scan impossible is said in the result."""
    project = _as_it_is(project)
    columns = _columns(project)
    if not project.features.names():
        return Scan(not_done="no feature is a number, a value, a point in time or a text")
    try:
        rules = schema if schema is not None else _typed_columns(source, project, columns)
        check_columns(project, rules, {}, {})
        time = project.data.time if project.data.split.in_time else None
        uris = [file.uri for file in source.files]
        checker = Checker(rules, uris, required=[time] if time else [], only=columns)
        most = memory_bytes // _PART_OF_MEMORY
        bounds = under_way(source, memory_bytes - most, len(columns))
        sample = draw_sample(source, checker, most, bounds.threads, under_way=bounds.tasks)
        return _scan(project, sample)
    except (SchemaMismatch, LabelProblem, EmptyData) as error:
        return Scan(not_done=error.what)


def _as_it_is(project: Project) -> Project:
    """The project without what is done to training rows and models afterwards, and without pictures, which no rule
    looks at."""
    done = {"sample": None, "weight": None, "balance": Balance(), "duplicates": "keep_together"}
    data = project.data.model_copy(update=done | {"near_duplicates": "tell"})
    features = project.features.model_copy(update={"image": {}, "crosses": {}})
    return project.model_copy(update={"data": data, "features": features, "evaluate": Evaluate()})


def _columns(project: Project) -> list[str]:
    data = project.data
    known_at = (*data.leaks.known_at, *data.leaks.known_at.values())
    keys = [name for name in (data.label.column, data.time, data.entity) if name]
    return list(dict.fromkeys([*project.features.names(), *keys, *known_at]))


def _typed_columns(source: Source, project: Project, columns: Sequence[str]) -> Schema:
    """What the files themselves say of the types; text that is to be a point in time is one."""
    instants = {*project.features.datetime, project.data.time, *project.data.leaks.known_at.values()}
    found: dict[str, ColumnRule] = {}
    for schema in source.schemas:
        for field in schema:
            kind = kind_of(field.type)
            if field.name not in columns or kind is None:
                continue
            kind = "timestamp" if kind == "string" and field.name in instants else kind
            before = found.get(field.name)
            if before is not None and {before.type, kind} == {"int", "float"}:
                kind = "float"
            found[field.name] = ColumnRule.model_validate({"type": kind})
    return Schema(columns={name: found[name] for name in columns if name in found})


def _scan(project: Project, sample: LeakSample) -> Scan:
    first = FirstPass(project)
    for checked in sample.batches:
        first.take(checked)
    plan = first.finish(project)
    try:
        plan.check(project)
    except SplitTooSmall:
        plan = _all_train(plan)
    rows = tuple(plan.rows(side) for side in range(len(SPLITS)))
    look = SecondLook(project, plan.labels.task, len(plan.labels.classes), rows)
    start = written = 0
    for checked in sample.batches:
        batch = checked.batch
        sides = plan.sides[start : start + batch.num_rows]
        look.hidden(batch.filter(pa.array(sides == UNLABELLED)))
        codes = np.zeros(batch.num_rows, plan.codes.dtype)
        there = sides >= 0
        codes[there] = plan.codes[written : written + int(there.sum())]
        written += int(there.sum())
        batch = batch.append_column(LABEL, pa.array(codes))
        for side in range(len(SPLITS)):
            chosen = sides == side
            if chosen.any():
                rows_of = batch if chosen.all() else batch.filter(pa.array(chosen))
                look.take(side, rows_of, np.flatnonzero(chosen) + start)
        start += batch.num_rows
    findings = look.findings(plan.first_look, plan.entities)
    return Scan(findings, sample.rows, rows[0], sample.whole)


def _all_train(plan: Plan) -> Plan:
    """Every row with a label trains, and every other one shows what is missing without it, whenever it was."""
    sides = np.where(plan.sides >= LEFT_OUT, 0, UNLABELLED).astype(np.int8)
    return replace(plan, sides=sides, codes=plan.labels.codes, entities={})
