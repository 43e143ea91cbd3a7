"""Runs a compiled pipeline from its IR as Kubeflow would, for tests without a Kubeflow.

What is read: tasks in DAG order, nested DAGs, constants, parameters and outputs of tasks, conditions, retries with
their waits, exit handlers with the final status, and each executor's image, command and arguments. What is not:
outputs of nested DAGs, iterators, importers and the cache. A `Runner` says where a step runs: in a process here, or in
a pod of a cluster.
"""

import json
import operator
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(r"(?:int|double|string|bool)?\(?inputs\.parameter_values\['([^']+)'\]\)?\s*(==|!=|>=|<=|>|<)\s*(.+)")


class StepFailed(Exception):
    """A step ended without success; the message is the last of what it said."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step: what a pod for it needs."""

    run: str
    task: str
    number: int
    image: str
    command: tuple[str, ...]
    executor_input: dict[str, Any]
    container: Mapping[str, Any]
    platform: Mapping[str, Any]
    output: str


class Runner(Protocol):
    """Runs one try of a step and returns what its executor wrote. Raises StepFailed."""

    def __call__(self, attempt: Attempt) -> dict[str, Any]: ...


@dataclass
class Ended:
    """What became of a run: the state of each task by its name, outputs, number of tries, and the first failure."""

    states: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: str = ""

    @property
    def state(self) -> str:
        """SUCCEEDED or FAILED."""
        return "FAILED" if self.failure else "SUCCEEDED"


class CompiledPipeline:
    """A compiled pipeline: the IR, and what it says of the platform Kubernetes."""

    def __init__(self, spec: dict[str, Any], platform_spec: Mapping[str, Any] | None = None) -> None:
        self.spec = spec
        platform = (platform_spec or {}).get("platforms", {}).get("kubernetes", {})
        self.platform: dict[str, Any] = platform.get("deploymentSpec", {}).get("executors", {})

    @classmethod
    def parse(cls, text: str) -> "CompiledPipeline":
        """From the content of a compiled file."""
        return cls(*yaml.safe_load_all(text))

    @classmethod
    def submitted(cls, value: dict[str, Any]) -> "CompiledPipeline":
        """From the ``pipeline_spec`` of a run that a client asked for."""
        return cls(value["pipeline_spec"], value["platform_spec"]) if "pipeline_spec" in value else cls(value)

    def run(
        self,
        runner: Runner,
        parameters: Mapping[str, Any],
        *,
        run: str,
        root: str,
        wait: Callable[[float], None] = time.sleep,
        ended: Ended | None = None,
    ) -> Ended:
        """Run everything. `root`: the pipeline root, an S3 URI. `wait` takes the seconds between tries. `ended` is
        filled while the run goes on."""
        ended = Ended() if ended is None else ended
        known = self._with_defaults(self.spec["root"], parameters)
        walk = _Walk(self, runner, run, root, wait, ended)
        walk.dag(self.spec["root"], known)
        return ended

    def _with_defaults(self, component: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        unknown = set(given) - set(declared)
        if unknown:
            raise ValueError(f"the pipeline takes no {', '.join(sorted(unknown))}")
        missing = [name for name, facts in declared.items() if name not in given and not facts.get("isOptional")]
        if missing:
            raise ValueError(f"the pipeline needs {', '.join(missing)}")
        defaults = {name: facts["defaultValue"] for name, facts in declared.items() if "defaultValue" in facts}
        return {**defaults, **given}


@dataclass
class _Walk:
    pipeline: CompiledPipeline
    runner: Runner
    run: str
    root: str
    wait: Callable[[float], None]
    ended: Ended

    def dag(self, component: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
        """Run the tasks of a DAG; False when one of them failed."""
        tasks: dict[str, Any] = component["dag"]["tasks"]
        ok = True
        for name in _ordered(tasks):
            task = tasks[name]
            trigger = task.get("triggerPolicy", {})
            before = [self.ended.states.get(other) for other in task.get("dependentTasks", ())]
            always = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            if not always and any(state != "SUCCEEDED" for state in before):
                self.ended.states[name] = "SKIPPED"
                continue
            inputs = self._inputs(task, known)
            if "condition" in trigger and not holds(trigger["condition"], inputs):
                self.ended.states[name] = "SKIPPED"
                continue
            succeeded = self._task(name, task, inputs)
            self.ended.states[name] = "SUCCEEDED" if succeeded else "FAILED"
            ok = ok and succeeded
        return ok

    def _task(self, name: str, task: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
        component = self.pipeline.spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            return self.dag(component, inputs)
        policy = task.get("retryPolicy", {})
        most = int(policy.get("maxRetryCount", 0)) + 1
        for number in range(1, most + 1):
            self.ended.tries[name] = number
            try:
                given = self.runner(self._attempt(name, component, inputs, number))
            except StepFailed as error:
                if number == most:
                    self.ended.failure = self.ended.failure or f"{name}: {error}"
                    return False
                self.wait(_pause(policy, number))
                continue
            self.ended.outputs[name] = dict(given.get("parameterValues", {}))
            self.ended.artifacts[name] = dict(given.get("artifacts", {}))
            return True
        return False

    def _attempt(self, name: str, component: Mapping[str, Any], inputs: Mapping[str, Any], number: int) -> Attempt:
        label = component["executorLabel"]
        container = self.pipeline.spec["deploymentSpec"]["executors"][label]["container"]
        folder = f"{self.root}/{self.pipeline.spec['pipelineInfo']['name']}/{self.run}/{name}"
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        defaults = {key: facts["defaultValue"] for key, facts in declared.items() if "defaultValue" in facts}
        return Attempt(
            run=self.run,
            task=name,
            number=number,
            image=container["image"],
            command=(*container.get("command", ()), *container.get("args", ())),
            executor_input=executor_input(component, {**defaults, **inputs}, folder),
            container=container,
            platform=self.pipeline.platform.get(label, {}),
            output=f"{folder}/executor-output-{number}.json",
        )

    def _inputs(self, task: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                if source["componentInputParameter"] in known:
                    found[name] = known[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                origin = source["taskOutputParameter"]
                found[name] = self.ended.outputs[origin["producerTask"]][origin["outputParameterKey"]]
            elif "taskFinalStatus" in source:
                found[name] = self._final_status(source["taskFinalStatus"]["producerTask"])
            else:
                found[name] = source["runtimeValue"]["constant"]
        return found

    def _final_status(self, producer: str) -> dict[str, Any]:
        status: dict[str, Any] = {
            "state": self.ended.states[producer],
            "pipelineJobResourceName": self.run,
            "pipelineTaskName": producer,
        }
        if self.ended.failure:
            status["error"] = {"code": 9, "message": self.ended.failure}
        return status


def executor_input(component: Mapping[str, Any], inputs: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Kubeflow's ExecutorInput for a step whose artifacts go to `folder`, as JSON."""
    outputs = component.get("outputDefinitions", {})
    return {
        "inputs": {"parameterValues": dict(inputs)},
        "outputs": {
            "parameters": {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in outputs.get("parameters", {})},
            "artifacts": {
                name: {
                    "artifacts": [
                        {"name": name, "type": facts["artifactType"], "uri": f"{folder}/{name}", "metadata": {}}
                    ]
                }
                for name, facts in outputs.get("artifacts", {}).items()
            },
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }


def holds(condition: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a condition of the IR holds: comparisons of one parameter with one constant, joined by && and !( )."""
    return all(_term(term.strip(), inputs) for term in condition.split("&&"))


def _term(term: str, inputs: Mapping[str, Any]) -> bool:
    if term.startswith("!(") and term.endswith(")"):
        return not _term(term[2:-1].strip(), inputs)
    found = _TERM.fullmatch(term)
    if found is None:
        raise ValueError(f"this harness cannot read the condition {term!r}")
    name, sign, constant = found.groups()
    wanted = constant[1:-1] if constant[0] in "'\"" else json.loads(constant)
    return bool(_COMPARE[sign](inputs[name], wanted))


def _ordered(tasks: Mapping[str, Any]) -> Sequence[str]:
    done: list[str] = []
    while len(done) < len(tasks):
        ready = [
            name
            for name, task in tasks.items()
            if name not in done and all(other in done for other in task.get("dependentTasks", ()))
        ]
        if not ready:
            raise ValueError("the tasks wait for each other")
        done += ready
    return done


def _pause(policy: Mapping[str, Any], number: int) -> float:
    first = float(str(policy.get("backoffDuration", "0s")).removesuffix("s"))
    factor = float(policy.get("backoffFactor", 2.0))
    most = float(str(policy.get("backoffMaxDuration", "3600s")).removesuffix("s"))
    return min(most, first * factor ** (number - 1))
