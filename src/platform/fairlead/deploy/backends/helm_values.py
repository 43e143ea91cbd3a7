"""The values of the chart ``helm/fairlead-model`` as models: what the chart accepts, and what a rollout may change.

The chart's ``values.yaml``, ``values.schema.json`` and ``README.md`` are written from here (`helm_files`). Values that
contradict each other are refused twice, here and by the chart's templates, because most people never see this module.
"""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from fairlead.records.release import Arm, Release
from fairlead.records.trial import OutcomeRule
from fairlead.spec.quantities import Section
from fairlead.spec.serve import Serve

Mapping = dict[str, Any]
"""What is handed to Kubernetes as it is, and checked there."""

_DIGEST = r"^sha256:[0-9a-f]{64}$"
_NAME = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"


class Block(Section):
    """The base: keys are camelCase, as charts have them; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, alias_generator=to_camel)


class Champion(Block):
    """The version that is trusted."""

    version: int = Field(ge=1, description="Its number in the registry.")
    bundle_uri: str = Field(min_length=1, description="Where its bundle is: a key of the store, or s3://...")
    digest: str = Field(pattern=_DIGEST, description="The digest that the bundle must have.")


class Candidate(Block):
    """The version that is tried; all empty: none."""

    version: int = Field(0, ge=0, description="Its number in the registry; 0: no candidate.")
    bundle_uri: str = Field("", description="Where its bundle is.")
    digest: str = Field("", pattern=r"^(sha256:[0-9a-f]{64})?$", description="The digest that the bundle must have.")


class OutcomeValues(Block):
    """What is counted for each key of an A/B test or a bandit."""

    metric: str = Field(min_length=1, description="Its name in feedback, `label` or `loss`.")
    horizon_seconds: float = Field(gt=0, description="How long an outcome may take; then the key counts.")
    low: float = Field(0, description="Smallest value.")
    high: float = Field(1, description="Largest value.")
    binary: bool = Field(True, description="It is one of the two.")
    missing: float | None = Field(None, description="What a key without an outcome counts. Default: it is left out.")


class Traffic(Block):
    """Who answers, and who gets copies. Apart from `sticky`, a change reaches running servers without replacing one."""

    candidate_weight: float = Field(0, ge=0, le=100, description="Percent of the keys that the candidate answers.")
    shadow_percent: float = Field(0, ge=0, le=100, description="Percent of the requests copied to the candidate.")
    sticky: str = Field(
        "", description="Header (header:NAME) or input field that keeps a client on one arm. Empty: the request id."
    )
    rollout: str = Field("", description="The rollout that set this; empty: a person.")
    note: str = Field("", description="Why, in a sentence.")
    latency_bound_ms: float | None = Field(
        None, gt=0, description="Calls of a model over this many milliseconds count as slow. Default: the deadline."
    )
    outcome: OutcomeValues | None = Field(
        None, description="What is counted for each key of an A/B test or a bandit. Default: nothing."
    )
    label_horizon_seconds: float | None = Field(
        None, gt=0, description="How long a label may take; then the answer counts. Default: as labels come."
    )
    slices: tuple[str, ...] = Field(
        (), max_length=4, description="Input columns whose values get shadow evidence of their own."
    )


class Image(Block):
    """The image of the servers."""

    repository: str = Field(min_length=1, description="Registry and name.")
    tag: str = Field("", description="Tag; `latest` is refused. Ignored with a digest.")
    digest: str = Field("", pattern=r"^(sha256:[0-9a-f]{64})?$", description="Digest; safer than a tag.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field("IfNotPresent", description="When to pull.")


class StoreValues(Block):
    """Where bundles, the release and the request log live."""

    uri: str = Field(pattern=r"^s3://[^/]+", description="s3://bucket/prefix, the project's `store`.")
    endpoint: str = Field("", description="URL of an S3 server that is not Amazon's.")
    region: str = Field("us-east-1", description="Region of the bucket.")
    existing_secret: str = Field(
        "", description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Empty: the pod's own identity."
    )


class Token(Block):
    """The bearer token of the routes that change what is live."""

    existing_secret: str = Field("", description="Secret with the key `token`. Empty: the chart makes it once.")


class Pods(Block):
    """What one kind of pod gets, and where it may run."""

    resources: Mapping = Field(default_factory=dict, description="Requests and limits.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that the node must have.")
    tolerations: list[Mapping] = Field(default_factory=list, description="Taints that are borne.")
    affinity: Mapping = Field(default_factory=dict, description="Affinity of the pods.")
    priority_class_name: str = Field("", description="PriorityClass of the pods.")


class Head(Pods):
    """The head pod: Ray's control plane, Serve's controller, and the server itself when there are no workers."""

    resources: Mapping = Field(
        default_factory=lambda: {
            "requests": {"cpu": "500m", "memory": "2Gi"},
            "limits": {"cpu": "1", "memory": "3Gi"},
        },
        description="Requests and limits.",
    )


class Workers(Pods):
    """The pods that answer."""

    replicas: int = Field(0, ge=0, description="Worker pods. 0 with max 0: the head answers, in one pod.")
    min: int = Field(0, ge=0, description="Fewest worker pods, with autoscaling.")
    max: int = Field(0, ge=0, description="Most worker pods, with autoscaling.")
    resources: Mapping = Field(
        default_factory=lambda: {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}},
        description="Requests and limits.",
    )


class FaultTolerance(Block):
    """Redis for Ray's control plane: with it the workers go on while the head is gone."""

    redis_address: str = Field("", description="host:port of the Redis; empty: none.")
    existing_secret: str = Field("", description="Secret with the key `password`.")


class Ray(Block):
    """The RayService (backend ray). Token authentication is always on."""

    version: str = Field("2.60.0", pattern=r"^\d+\.\d+\.\d+$", description="Version of Ray in the image.")
    cpus_per_replica: float = Field(0.5, ge=0, description="CPUs that Ray reserves for a replica on a worker.")
    object_store_bytes: int = Field(104857600, ge=78643200, description="Ray's object store per pod, in bytes.")
    auth_secret: str = Field("", description="Secret with the key `auth_token`. Empty: KubeRay makes one per cluster.")
    upgrade: Literal["NewCluster", "None"] = Field(
        "NewCluster", description="What a changed pod template does: a second cluster takes over, or nothing."
    )
    deletion_delay_seconds: int = Field(60, ge=0, description="How long a replaced cluster stays.")
    initializing_timeout: str = Field(
        "", description="After this long (10m) a service that never became ready is given up for good; empty: never."
    )
    fault_tolerance: FaultTolerance = Field(default_factory=FaultTolerance, description="Redis for the control plane.")
    head: Head = Field(default_factory=Head, description="The head pod.")
    workers: Workers = Field(default_factory=Workers, description="The worker pods.")


class Autoscaling(Block):
    """Replicas by load: of Ray Serve and its pods, or of Seldon's pods."""

    enabled: bool = Field(False, description="Scale by load; otherwise serve.replicas is used.")
    min_replicas: int = Field(1, ge=1, description="Fewest replicas.")
    max_replicas: int = Field(4, ge=1, description="Most replicas.")
    target_ongoing_requests: float = Field(16, gt=0, description="Requests in flight per replica to aim at (ray).")
    target_cpu_percent: int = Field(70, ge=1, le=100, description="CPU use to aim at (seldon).")
    upscale_delay_seconds: float = Field(10, ge=0, description="How long more load must last.")
    downscale_delay_seconds: float = Field(300, ge=0, description="How long less load must last.")
    idle_timeout_seconds: int = Field(120, ge=1, description="After this long an idle worker pod goes.")


class Seldon(Pods):
    """The predictors' pods (backend seldon, seldon-v2)."""

    replicas: int = Field(1, ge=1, description="Pods per predictor.")
    resources: Mapping = Field(
        default_factory=lambda: {
            "requests": {"cpu": "250m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        description="Requests and limits.",
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Annotations of the SeldonDeployment, such as seldon.io/istio-gateway."
    )
    requirements: list[str] = Field(
        default_factory=lambda: ["fairlead"],
        description="seldon-v2: capabilities that a Server must have; it must be able to host a Fairlead bundle.",
    )


class Gateway(Block):
    """The split outside of the pods (backend ray): an HTTPRoute over one RayService per arm."""

    enabled: bool = Field(False, description="Make one RayService per arm, and an HTTPRoute that splits and mirrors.")
    parent_refs: list[Mapping] = Field(default_factory=list, description="Gateways that the route attaches to.")
    hostnames: list[str] = Field(default_factory=list, description="Host names of the route.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the route.")


class ServiceValues(Block):
    """The Service in front (backend ray); `<release>-serve-svc`."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field("ClusterIP", description="Type of the Service.")
    port: int = Field(8000, ge=1, le=65535, description="Its port.")
    node_port: int | None = Field(None, ge=1, le=65535, description="Port on the nodes; default: the cluster chooses.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the Service.")


class ServiceAccountValues(Block):
    """Who the pods are. They get no token of the API server, unless Ray's autoscaler runs."""

    create: bool = Field(True, description="Make one.")
    name: str = Field("", description="Its name; default: the release's.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Its annotations, as for workload identity.")


class NetworkPolicyValues(Block):
    """Who may reach which port. Ray's own ports are open to the pods of this release and KubeRay's operator only."""

    enabled: bool = Field(True, description="Make it; a network plugin must enforce it.")
    clients: list[Mapping] = Field(
        default_factory=list, description="Peers (`from` of a NetworkPolicy) that may send requests. Empty: everybody."
    )
    metrics: list[Mapping] = Field(
        default_factory=list, description="Peers that may read Ray's metrics. Empty: the namespace `monitoring`."
    )
    operator: list[Mapping] = Field(
        default_factory=lambda: [
            {
                "namespaceSelector": {},
                "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
            }
        ],
        description="Peers that may reach Ray's dashboard port: KubeRay's operator.",
    )
    egress: list[Mapping] = Field(
        default_factory=list,
        description="Rules for what the pods may reach beside each other and DNS. Empty: egress is not restricted.",
    )


class PodDisruptionBudgetValues(Block):
    """How many serving pods a drain must leave. Not made when there are not more pods than that."""

    enabled: bool = Field(True, description="Make it.")
    min_available: int = Field(1, ge=1, description="Serving pods that must stay.")


class PodMonitor(Block):
    """Scraping by the prometheus-operator: Ray's metrics, and those of the servers."""

    enabled: bool = Field(False, description="Make it.")
    interval: str = Field("15s", pattern=r"^\d+(ms|s|m)$", description="How often.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that the Prometheus selects by.")


class PrometheusRule(Block):
    """Alerts."""

    enabled: bool = Field(False, description="Make it.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that the Prometheus selects by.")
    runbook_url: str = Field(
        "",
        description="Page whose sections are named like the alerts; empty: RUNBOOK.md of the chart is named.",
    )
    max_error_share: float = Field(0.01, gt=0, le=1, description="Share of 5xx answers that is too many.")
    max_fallback_share: float = Field(0.01, gt=0, le=1, description="Share of fallback answers that is too many.")
    max_p99_seconds: float = Field(0.5, gt=0, description="99th percentile of the latency that is too long (s).")


class Dashboard(Block):
    """A Grafana dashboard in a ConfigMap, as Grafana's sidecar finds it."""

    enabled: bool = Field(False, description="Make it.")
    labels: dict[str, str] = Field(
        default_factory=lambda: {"grafana_dashboard": "1"}, description="Labels that the sidecar selects by."
    )


class Monitoring(Block):
    """What watches the servers."""

    pod_monitor: PodMonitor = Field(default_factory=PodMonitor, description="Scraping.")
    prometheus_rule: PrometheusRule = Field(default_factory=PrometheusRule, description="Alerts.")
    dashboard: Dashboard = Field(default_factory=Dashboard, description="Grafana.")


class HelmValues(Block):
    """All values of one served model."""

    model: str = Field(pattern=_NAME, description="The model, which has its project's name.")
    backend: Literal["ray", "seldon", "seldon-v2"] = Field(
        "ray",
        description="ray: RayService; seldon: SeldonDeployment; seldon-v2: Models and an Experiment.",
    )
    champion: Champion = Field(description="The version that is trusted.")
    candidate: Candidate = Field(default_factory=Candidate, description="The version that is tried.")
    traffic: Traffic = Field(default_factory=Traffic, description="Who answers, and who gets copies.")
    serve: Serve = Field(
        default_factory=Serve,
        description="The serve section of fairlead.yaml, with its names; host and port are the chart's.",
    )
    image: Image = Field(description="The image of the servers.")
    image_pull_secrets: list[Mapping] = Field(default_factory=list, description="Secrets to pull it with.")
    store: StoreValues = Field(description="Where bundles come from.")
    token: Token = Field(default_factory=Token, description="The token of the control routes.")
    ray: Ray = Field(default_factory=Ray, description="The RayService.")
    autoscaling: Autoscaling = Field(default_factory=Autoscaling, description="Replicas by load.")
    seldon: Seldon = Field(default_factory=Seldon, description="Seldon's predictors.")
    gateway: Gateway = Field(default_factory=Gateway, description="The split outside of the pods.")
    service: ServiceValues = Field(default_factory=ServiceValues, description="The Service in front.")
    service_account: ServiceAccountValues = Field(default_factory=ServiceAccountValues, description="Who the pods are.")
    network_policy: NetworkPolicyValues = Field(
        default_factory=NetworkPolicyValues, description="Who may reach which port."
    )
    pod_disruption_budget: PodDisruptionBudgetValues = Field(
        default_factory=PodDisruptionBudgetValues, description="What a drain must leave."
    )
    monitoring: Monitoring = Field(default_factory=Monitoring, description="What watches the servers.")
    env: list[Mapping] = Field(default_factory=list, description="More environment of the servers.")
    pod_labels: dict[str, str] = Field(default_factory=dict, description="More labels of the pods.")
    pod_annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the pods.")
    scratch_size_limit: str = Field("4Gi", description="Limit of each of the two scratch volumes of a pod.")
    read_only_root_filesystem: bool = Field(True, description="Nothing but the scratch volumes can be written.")
    termination_grace_period_seconds: int = Field(60, ge=1, description="Time for the last requests of a pod.")
    pre_stop_seconds: int = Field(10, ge=0, description="How long a leaving pod goes on answering.")
    name_override: str = Field("", description="Instead of the chart's name in labels.")
    fullname_override: str = Field("", description="Instead of the release's name in names.")
    global_: Mapping = Field(default_factory=dict, alias="global", description="Not used; Helm hands it to subcharts.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        candidate, traffic = self.candidate, self.traffic
        if bool(candidate.digest) != bool(candidate.bundle_uri) or bool(candidate.digest) != bool(candidate.version):
            raise ValueError("candidate needs version, bundleUri and digest, or none of them")
        if not candidate.digest and (traffic.candidate_weight or traffic.shadow_percent):
            raise ValueError("traffic.candidateWeight and traffic.shadowPercent must be 0 without a candidate")
        if candidate.digest == self.champion.digest:
            raise ValueError("the candidate is the champion")
        return self


def traffic_values(release: Release) -> dict[str, Any]:
    """The values that make the chart tell `release` to the servers: champion, candidate and traffic, nothing else.

    Every key is written out, so that values of an earlier revision that are kept (``--reuse-values``) cannot shine
    through. The generation is Helm's revision; `sticky` stays what it is.
    """
    return {
        "champion": _arm_values(release.champion),
        "candidate": _arm_values(release.candidate) if release.candidate else Candidate().model_dump(by_alias=True),
        "traffic": {
            "candidateWeight": release.candidate_weight,
            "shadowPercent": release.shadow_percent,
            "rollout": release.rollout,
            "note": release.note,
            "latencyBoundMs": release.latency_bound_ms,
            "outcome": _outcome_values(release.outcome) if release.outcome else None,
            "labelHorizonSeconds": release.label_horizon_seconds,
            "slices": list(release.slices),
        },
    }


def _outcome_values(rule: OutcomeRule) -> dict[str, Any]:
    return {
        "metric": rule.metric,
        "horizonSeconds": rule.horizon_seconds,
        "low": rule.low,
        "high": rule.high,
        "binary": rule.binary,
        "missing": rule.missing,
    }


def _arm_values(arm: Arm) -> dict[str, Any]:
    return {"version": arm.version, "bundleUri": arm.bundle_uri, "digest": arm.digest}
