"""The table of all verbs. ``fairlead --help`` prints it without importing any of them."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _nothing(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


@dataclass(frozen=True, slots=True)
class SubVerb:
    """A verb below a verb, as in ``fairlead model show``. `run` returns the exit code."""

    help: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _nothing
    examples: str = ""


@dataclass(frozen=True, slots=True)
class VerbHelp:
    """A verb's line in the table, and those of the verbs below it."""

    help: str
    below: Mapping[str, str] = field(default_factory=dict)


VERBS: Mapping[str, VerbHelp] = {
    "init": VerbHelp("write a commented fairlead.yaml from a data file"),
    "validate": VerbHelp("check the project file"),
    "schema": VerbHelp("print the project file's JSON schema"),
    "explain": VerbHelp("explain a field of the project file, or an error code"),
    "run": VerbHelp("run the pipeline: data, train, evaluate, register, deploy"),
    "data": VerbHelp(
        "look at, validate, split, sample and compare data",
        {
            "profile": "statistics of every column",
            "validate": "check the rows against the schema, quarantine those that break it",
            "split": "write the prepared data: train, validation, test",
            "sample": "draw rows from the source into one file: simple, stratified, weighted, importance",
            "drift": "which features moved between two windows, and why; or day by day, with few false alarms",
            "schema": "where the data and the committed schema disagree, and accepting it",
        },
    ),
    "train": VerbHelp("train a model on prepared data"),
    "evaluate": VerbHelp("judge a model on the test rows: metrics, slices, baselines, gates"),
    "model": VerbHelp(
        "versions, champion, history, lineage",
        {
            "list": "all versions",
            "show": "one version: where it comes from, what it showed",
            "compare": "two versions side by side",
            "history": "who changed what, when, why",
            "register": "register a bundle as a version",
            "promote": "make a version the champion",
            "rollback": "make the previous champion the champion again",
            "export": "one ONNX file from raw columns to scores and labels, for any server",
            "lineage": "from a source file to every version made from it",
        },
    ),
    "serve": VerbHelp("serve a model over HTTP in one process"),
    "deploy": VerbHelp("put a version on the servers, or show what they serve"),
    "rollout": VerbHelp(
        "bring a candidate to live traffic on evidence",
        {
            "start": "start the rollout of a candidate",
            "get": "where a rollout is",
            "why": "explain its decisions from the stored evidence",
            "pause": "hold it for a person",
            "resume": "let it go on",
            "promote": "promote the candidate by hand",
            "abort": "send all traffic back to the champion",
            "rehearse": "play the policy on simulated candidates, before it is used",
            "replay": "play the present policy on what a rollout recorded",
            "verdicts": "answer other controllers (Argo Rollouts, Flagger) and Prometheus over HTTP",
        },
    ),
    "traffic": VerbHelp("replay rows as requests, and post their labels as feedback"),
    "batch": VerbHelp("score a data set with a registered model"),
    "up": VerbHelp("start the local Ray that training and serving share"),
    "down": VerbHelp("stop the local Ray"),
    "doctor": VerbHelp("check this machine: Ray, ports, disk, extras"),
}

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "a bug in Fairlead",
    2: "project file or command line (FL-1xx)",
    3: "data (FL-2xx)",
    4: "training or evaluation (FL-3xx, FL-4xx)",
    5: "store, bundle or registry (FL-5xx)",
    6: "server (FL-6xx)",
    7: "rollout (FL-7xx)",
    8: "this machine: Ray, disk, extras (FL-8xx)",
    10: "verdict FAIL",
    11: "verdict NOT_ENOUGH_EVIDENCE",
    130: "interrupted",
}


def top_help() -> str:
    """What ``fairlead --help`` prints."""
    lines = [
        "usage: fairlead VERB [options]",
        "",
        "From raw data to a watched model: data, train, evaluate, register, serve, deploy, watch.",
        "",
        "verbs:",
    ]
    for name, verb in VERBS.items():
        lines.append(f"  {name:<10} {verb.help}")
        if verb.below:
            lines.append(f"  {'':<10}   {' | '.join(verb.below)}")
    lines += [
        "",
        "options of every verb:",
        "  -f, --file FILE      project file (default: fairlead.yaml)",
        "  --set KEY=VALUE      override a value of the project file, e.g. --set train.epochs=3; repeatable",
        "  -o, --output FORMAT  text or json, on standard output; progress goes to standard error",
        "  -v, --verbose        say more on standard error",
        "  --debug              show tracebacks",
        "  -h, --help           help of a verb: fairlead VERB --help",
        "  --version            the version",
        "",
        "exit codes:",
        *(f"  {code:<10} {meaning}" for code, meaning in EXIT_CODES.items()),
        "",
        "examples:",
        "  fairlead init --from data.csv --label churned",
        "  fairlead run",
        "  fairlead rollout why",
    ]
    return "\n".join(lines)
