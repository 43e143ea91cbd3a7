"""Writes docs/reference/ from the code: the command line, the project file, the errors, the metrics; of the chart what
its values are, and its dashboard; and the samples in k8s/.

python docs/generate.py            write the files
python docs/generate.py --check    exit 1 and name the files that differ
"""

import argparse
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

from fairlead.cli.frame import Parser, build_parser
from fairlead.cli.verbs import EXIT_CODES, VERBS, top_help
from fairlead.data.profile_record import Profile
from fairlead.data.schema import Schema
from fairlead.deploy.backends.helm_files import schema_file as values_schema_file
from fairlead.deploy.backends.helm_files import values_file, values_table
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import new_rollout
from fairlead.deploy.verdict_service.exposition import families
from fairlead.records.release import Arm
from fairlead.serve.dashboard import dashboard_file
from fairlead.spec.deploy import Rollout
from fairlead.spec.explain import error_docs, section_words
from fairlead.spec.fields import FieldDoc, all_fields
from fairlead.spec.schema import json_schema
from fairlead.spec.serve import Serve
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.memory_store import MemoryStore

FOLDER = Path(__file__).resolve().parent / "reference"
ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "fairlead-model"
FLIGHTS = ROOT / "examples" / "flights" / "fairlead.yaml"
NOTE = "<!-- Written by docs/generate.py from the code: change the code, then run it again. -->\n\n"


def cli_page() -> str:
    """The help of every verb, as the terminal shows it."""
    os.environ["COLUMNS"] = "100"
    parts = ["# Command line\n", NOTE, f"```text\n{top_help()}\n```\n"]
    for verb, entry in VERBS.items():
        parts.append(f"\n## fairlead {verb}\n\n")
        if importlib.util.find_spec(f"fairlead.cli.{verb}") is None:
            parts.append(f"{_sentence(entry.help)}\n")
            continue
        parser = build_parser(verb, importlib.import_module(f"fairlead.cli.{verb}"))
        parts.append(f"```text\n{_help(parser)}\n```\n")
        for name, child in _children(parser):
            parts.append(f"\n### fairlead {verb} {name}\n\n```text\n{_help(child)}\n```\n")
    return "".join(parts)


def _help(parser: argparse.ArgumentParser) -> str:
    return "\n".join(line.rstrip() for line in parser.format_help().rstrip().splitlines())


def _children(parser: Parser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def spec_page() -> str:
    """Every field of the project file, a table per section."""
    parts = ["# Project file\n\n", NOTE]
    parts.append(
        "`fairlead.yaml` describes a project. Unknown keys are refused; `fairlead explain FIELD` shows one field, "
        "`fairlead schema` the JSON schema (also in [spec.schema.json](spec.schema.json)).\n"
    )
    return "".join([*parts, *_tables(all_fields(), "The file")])


def data_schema_page() -> str:
    """Every key of a schema file."""
    parts = ["# Schema file\n\n", NOTE]
    parts.append(
        "What each column must be (`data.validate.schema`): inferred once, edited by people, enforced from then on. "
        "Unknown keys are refused with their line; `fairlead explain schema.columns.monotonic` shows one key, "
        "[data-schema.schema.json](data-schema.schema.json) is the JSON schema. How it is used: "
        "[data-schema.md](../data-schema.md).\n"
    )
    return "".join([*parts, *_tables(all_fields(Schema, "schema"), "The file")])


def data_schema_file() -> str:
    """The JSON schema of a schema file."""
    return json.dumps(Schema.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _tables(docs: Iterable[FieldDoc], top: str) -> Iterator[str]:
    sections: dict[str, list[FieldDoc]] = {}
    about: dict[str, str] = {"": "The top level."}
    for doc in docs:
        section, _, _ = doc.path.rpartition(".")
        sections.setdefault(section, []).append(doc)
        if doc.sections:
            about[doc.path] = section_words(doc)
            about[f"{doc.path}[]"] = about[f"{doc.path}.<name>"] = about[doc.path]
    for section, listed in sections.items():
        title = f"`{section}`" if section else top
        yield f"\n## {title}\n\n{about.get(section, '')}\n\n"
        yield "| field | type | default | unit | meaning |\n| --- | --- | --- | --- | --- |\n"
        for doc in listed:
            default = "**required**" if doc.required else _code(doc.default)
            name = doc.path.removeprefix(f"{section}.")
            cells = (f"`{name}`", _cell(doc.expected), default, _cell(doc.unit), _cell(doc.description))
            yield "| " + " | ".join(cells) + " |\n"


def _code(text: str) -> str:
    return text if text in ("none", "the defaults of its fields") else f"`{text}`"


def _cell(text: str) -> str:
    return re.sub(r"([|<>])", r"\\\1", text)


def errors_page() -> str:
    """Every code with its meaning, and the exit codes."""
    parts = ["# Errors and exit codes\n\n", NOTE]
    parts.append(
        '`fairlead explain CODE` prints the same. With `-o json` an error is `{"error": {...}}` on standard output.\n'
    )
    parts.append("\n## Exit codes\n\n| code | meaning |\n| ---: | --- |\n")
    parts += [f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items()]
    parts.append("\n## Codes\n\n| code | name | exit code | meaning |\n| --- | --- | ---: | --- |\n")
    parts += [f"| {doc.code} | {doc.name} | {doc.exit_code} | {_cell(doc.text)} |\n" for doc in error_docs()]
    return "".join(parts)


def schema_file() -> str:
    """The JSON schema."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def profile_schema_file() -> str:
    """What `fairlead data profile -o json` prints."""
    return json.dumps(Profile.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def metrics_page() -> str | None:
    """The metrics of a server, read from the collectors that it registers."""
    if importlib.util.find_spec("fairlead.serve.metrics") is None:
        return None
    made = importlib.import_module("fairlead.serve.metrics").Metrics("model")
    parts = ["# Metrics\n\n", NOTE, "What `GET /metrics` of a server answers.\n\n"]
    parts.append("| name | type | labels | meaning |\n| --- | --- | --- | --- |\n")
    for collector in vars(made).values():
        if not isinstance(collector, MetricWrapperBase):
            continue
        for metric in collector.describe():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = ", ".join(f"`{label}`" for label in collector._labelnames)
            parts.append(f"| `{name}` | {metric.type} | {labels} | {_cell(metric.documentation)} |\n")
    return "".join(parts) + _rollout_metrics()


def _rollout_metrics() -> str:
    """What the host of a rollout and the verdict service tell, read from what they say of a rollout that just began."""
    one, two = (Arm(number, f"bundles/{number}", f"sha256:{number}") for number in (1, 2))
    plan = plan_from_spec(Rollout.model_validate({}), Serve())
    record = new_rollout(MemoryStore(), "model", plan, one, two, FakeClock(), "docs")
    parts = [
        "\nWhat `GET /metrics` of `fairlead rollout verdicts` and `fairlead rollout start --metrics-port` answers.\n\n"
    ]
    parts.append("| name | type | labels | meaning |\n| --- | --- | --- | --- |\n")
    for metric in families("model", record, hosted=True):
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        parts.append(f"| `{metric.name}` | {metric.type} | {labels} | {_cell(metric.documentation)} |\n")
    return "".join(parts)


def chart_readme() -> str:
    """The chart's README: its prose with the table of values."""
    return (CHART / "README.md.gotmpl").read_text(encoding="utf-8").replace("{{ values }}", values_table())


def sample_rayjob() -> str:
    """The training job of the flights example."""
    from fairlead.spec.load import load_project
    from fairlead.train.rayjob_render import Place, render

    told = (
        "train.launcher=rayjob",
        "train.rayjob.image=localhost/fairlead-platform:0.1.0",
        "store=s3://models/flights",
    )
    project = load_project(FLIGHTS, told).project
    job = render(project.train, Place(project.project, "sample", "sample", project.store, "fits/sample"))
    job["metadata"]["namespace"] = "fairlead"
    head = "# Written by docs/generate.py: what examples/flights with train.launcher: rayjob creates.\n"
    return head + yaml.safe_dump(job, sort_keys=False, width=120)


def sample_rayservice() -> str | None:
    """The served flights example, as the chart renders it; needs the wheel helm-python-sdk."""
    if importlib.util.find_spec("helm_python") is None:
        return None
    from helm_python import Chart

    values = yaml.safe_load((ROOT / "k8s" / "samples-values.yaml").read_text())
    values["serve"] = yaml.safe_load(FLIGHTS.read_text())["serve"]
    with Chart.load(CHART) as chart:
        files = chart.render(values, name="flights", namespace="fairlead", revision=1)
    parts = [text.strip() for name, text in sorted(files.items()) if name.endswith(".yaml") and text.strip()]
    head = "# Written by docs/generate.py: helm template flights helm/fairlead-model -f k8s/samples-values.yaml,\n"
    return head + "# with the serve section of examples/flights.\n" + "\n---\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


PAGES: dict[str, Callable[[], str | None]] = {
    "cli.md": cli_page,
    "spec.md": spec_page,
    "errors.md": errors_page,
    "spec.schema.json": schema_file,
    "data-schema.md": data_schema_page,
    "data-schema.schema.json": data_schema_file,
    "profile.schema.json": profile_schema_file,
    "metrics.md": metrics_page,
}
CHART_FILES: dict[str, Callable[[], str | None]] = {
    "values.yaml": values_file,
    "values.schema.json": values_schema_file,
    "README.md": chart_readme,
    "files/dashboard.json": dashboard_file,
}
SAMPLES: dict[str, Callable[[], str | None]] = {
    "sample-rayjob.yaml": sample_rayjob,
    "sample-rayservice.yaml": sample_rayservice,
}


def main(argv: list[str] | None = None) -> int:
    """Write or check all pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(argv).check
    differing = []
    files = [(f"docs/reference/{name}", FOLDER / name, make) for name, make in PAGES.items()]
    files += [(f"helm/fairlead-model/{name}", CHART / name, make) for name, make in CHART_FILES.items()]
    files += [(f"k8s/{name}", ROOT / "k8s" / name, make) for name, make in SAMPLES.items()]
    for name, path, make in files:
        text = make()
        if text is None:
            continue
        old = path.read_text(encoding="utf-8") if path.exists() else None
        if text == old:
            continue
        differing.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and differing:
        print(f"differs from the code: {', '.join(differing)}; run python docs/generate.py", file=sys.stderr)
        return 1
    for name in differing:
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
