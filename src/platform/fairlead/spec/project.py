"""The whole project file."""

from typing import Self

from pydantic import Field, model_validator

from fairlead.spec.data import Data
from fairlead.spec.deploy import MOST_SLICE_COLUMNS, Deploy, Shadow
from fairlead.spec.evaluate import Evaluate
from fairlead.spec.features import Features
from fairlead.spec.pipeline import Pipeline
from fairlead.spec.quantities import Section
from fairlead.spec.serve import Serve
from fairlead.spec.train import Train
from fairlead.spec.watch import Watch


class Project(Section):
    """One project: data -> train -> evaluate -> serve, deploy -> watch."""

    project: str = Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", description="Name: lower case, digits, dashes.")
    store: str = Field(
        ".fairlead",
        description="Where prepared data, bundles, registry and records live: a folder or s3://bucket/prefix.",
    )
    data: Data = Field(description="Where rows come from.")
    features: Features = Field(description="Which columns the model sees.")
    train: Train = Field(default_factory=Train, description="How the network is trained.")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="What a version must show.")
    serve: Serve = Field(default_factory=Serve, description="How a version answers.")
    deploy: Deploy = Field(default_factory=Deploy, description="How a candidate meets live traffic.")
    watch: Watch = Field(default_factory=Watch, description="What is looked at while a version is live.")
    pipeline: Pipeline = Field(default_factory=Pipeline, description="The steps as pods, with run --on cluster.")

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> Self:
        if self.data.label.column in self.features.names():
            raise ValueError(f"the label {self.data.label.column} cannot be a feature")
        return self

    @model_validator(mode="after")
    def _slices_are_inputs(self) -> Self:
        shadow = self.deploy.rollout.shadow
        unknown = set(shadow.slices or () if isinstance(shadow, Shadow) else ()) - set(self.features.names())
        if unknown:
            named = ", ".join(sorted(unknown))
            raise ValueError(f"deploy.rollout.shadow.slices: {named} is no feature, so no request has it")
        return self

    @model_validator(mode="after")
    def _pods_reach_the_store(self) -> Self:
        if self.train.launcher == "rayjob" and not self.store.startswith("s3://"):
            raise ValueError(f"train.launcher: rayjob needs a store that pods reach, s3://...; got {self.store}")
        return self

    def rollout_slices(self) -> tuple[str, ...]:
        """The columns whose values a rollout compares on their own: declared for it, or else those of the evaluation
        that requests have, as many as there may be."""
        shadow = self.deploy.rollout.shadow
        if not isinstance(shadow, Shadow):
            return ()
        if shadow.slices is not None:
            return shadow.slices
        names = set(self.features.names())
        return tuple(name for name in self.evaluate.slices.columns if name in names)[:MOST_SLICE_COLUMNS]
