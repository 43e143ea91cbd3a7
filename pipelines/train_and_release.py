"""Train and release: which step follows which. `train_and_release` is the story; `build` gives a part of it.

The fingerprints are parameters because Kubeflow's cache looks at parameters only: a step runs again when the source,
the code or the configuration is another one, and the evaluation also when the champion is. The last step is never
cached: traffic is not a function of parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairlead.components.deploy import deploy
from fairlead.components.evaluate import evaluate
from fairlead.components.prepare import prepare
from fairlead.components.register import register
from fairlead.components.train import train
from fairlead.components.validate import validate
from kfp import dsl

STEPS: dict[str, Any] = {
    "validate": validate,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "register": register,
    "deploy": deploy,
}

TITLES = {
    "validate": "Validate the data",
    "prepare": "Prepare splits and features",
    "train": "Train the network",
    "evaluate": "Evaluate on held-out rows",
    "register": "Register a version",
    "deploy": "Bring it to traffic on evidence",
}


@dsl.pipeline(name="train-and-release", display_name="Train and release")
def train_and_release(context: str, source: str = "", code: str = "", config: str = "", champion: str = "") -> None:
    """From raw data to a version on live traffic, each decision backed by evidence.

    Args:
        context: Project, overrides, run and store as JSON.
        source: Fingerprint of the source data.
        code: Version of the code.
        config: Digest of the configuration.
        champion: Digest of the champion that the new version is compared with.
    """
    version_of = {"code": code, "config": config}

    validated = validate(context=context, source=source, **version_of)
    validated.set_display_name(TITLES["validate"])

    prepared = prepare(context=context, source_fingerprint=validated.outputs["source_fingerprint"], **version_of)
    prepared.set_display_name(TITLES["prepare"])

    trained = train(context=context, fingerprint=prepared.outputs["fingerprint"], **version_of)
    trained.set_display_name(TITLES["train"])

    evaluated = evaluate(
        context=context,
        fingerprint=prepared.outputs["fingerprint"],
        draft=trained.outputs["draft"],
        champion=champion,
        **version_of,
    )
    evaluated.set_display_name(TITLES["evaluate"])

    registered = register(
        context=context,
        bundle_uri=evaluated.outputs["bundle_uri"],
        digest=evaluated.outputs["digest"],
        fingerprint=prepared.outputs["fingerprint"],
        **version_of,
    )
    registered.set_display_name(TITLES["register"])

    deployed = deploy(context=context, version=registered.outputs["version"])
    deployed.set_display_name(TITLES["deploy"])
    deployed.set_caching_options(False)


def build(first: str = "validate", last: str = "deploy") -> Callable[..., Any]:
    """The pipeline from step `first` to step `last`.

    What the steps before `first` would have given becomes a parameter of the same name. Raises ValueError when there is
    no such step, or `first` comes after `last`.
    """
    names = list(STEPS)
    chosen = names[names.index(first) : names.index(last) + 1]
    if not chosen:
        raise ValueError(f"step {first} comes after step {last}")
    if chosen == names:
        return train_and_release

    @dsl.pipeline(name=f"train-and-release-{first}-to-{last}", display_name=f"Train and release: {first} to {last}")
    def part(
        context: str,
        source: str = "",
        code: str = "",
        config: str = "",
        champion: str = "",
        source_fingerprint: str = "",
        fingerprint: str = "",
        draft: str = "",
        bundle_uri: str = "",
        digest: str = "",
        version: int = 0,
    ) -> None:
        known: dict[str, Any] = {
            "context": context,
            "source": source,
            "code": code,
            "config": config,
            "champion": champion,
            "source_fingerprint": source_fingerprint,
            "fingerprint": fingerprint,
            "draft": draft,
            "bundle_uri": bundle_uri,
            "digest": digest,
            "version": version,
        }
        chain(chosen, known)

    return part


def chain(chosen: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The tasks of these steps, each fed from `known` and from the steps before it."""
    tasks, fed = {}, dict(known)
    for name in chosen:
        task = STEPS[name](**{port: fed[port] for port in inputs_of(name)})
        task.set_display_name(TITLES[name])
        fed |= {port: task.outputs[port] for port in outputs_of(name)}
        if name == "deploy":
            task.set_caching_options(False)
        tasks[name] = task
    return tasks


def inputs_of(step: str) -> list[str]:
    """The names of the parameters that a step takes."""
    return list(STEPS[step].component_spec.inputs or {})


def outputs_of(step: str) -> list[str]:
    """The names of the parameters that a step gives to later ones."""
    artifacts = {"metrics", "curves", "report", "summary"}
    return [name for name in STEPS[step].component_spec.outputs or {} if name not in artifacts]
