"""Everything that the chart renders: valid, restricted, without secrets, and the same each time."""

import json
import re
from typing import Any

import kubernetes_validate
import pytest
from chart_world import (
    BASE,
    CANDIDATE,
    CHART,
    GATEWAY,
    ONE,
    OUTCOME,
    SETS,
    TWO,
    VALUE_SETS,
    WORKERS,
    ChartRefused,
    merged,
    only,
    pod_specs,
    render,
    render_text,
    serve_config,
)
from crd_schemas import FILE, crd_schema, from_module, module_folder, problems, strict

from fairlead.serve.ray_settings import CALLBACK_VARIABLE, LOCAL_ENVIRONMENT

MINORS = ("1.28", "1.34", "1.37")
CUSTOM = (
    "ray.io",
    "machinelearning.seldon.io",
    "mlops.seldon.io",
    "gateway.networking.k8s.io",
    "monitoring.coreos.com",
)

every_set = pytest.mark.parametrize("values", SETS.values(), ids=SETS)
KUBERAY = json.loads(FILE.read_text())["kinds"]


def test_there_are_enough_value_sets() -> None:
    assert len(SETS) >= 30


@every_set
@pytest.mark.parametrize("minor", MINORS)
def test_all_objects_fit_the_schemas_of_kubernetes(values: dict[str, Any], minor: str) -> None:
    documents = render(values)
    own = [document for document in documents if not document["apiVersion"].startswith(CUSTOM)]
    assert own
    for where, template in pod_specs(documents):
        metadata = {"name": re.sub(r"[^a-z0-9]+", "-", where.lower()), "namespace": "serving"}
        pod = {key: template[key] for key in ("metadata", "spec")}  # Seldon puts its hpaSpec beside them
        own.append({"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": pod})
    for service in [document for document in documents if document["kind"] == "RayService"]:
        own.append({"apiVersion": "v1", "kind": "Service", **service["spec"]["serveService"]})
    for document in own:
        kubernetes_validate.validate(document, minor, strict=True)


@every_set
def test_ray_services_fit_kuberays_crd(values: dict[str, Any]) -> None:
    for document in render(values):
        if document["kind"] == "RayService":
            assert problems(document, KUBERAY["RayService"]) == []
            assert len(document["metadata"]["name"]) <= 47


def test_the_trimmed_crd_is_what_the_module_says() -> None:
    folder = module_folder()
    if folder is None:
        pytest.skip("KubeRay's Go module is not in the module cache: go mod download fetches it")
    assert from_module(folder) == json.loads(FILE.read_text())


def test_ray_services_fit_the_whole_crd_where_it_is_there() -> None:
    folder = module_folder()
    if folder is None:
        pytest.skip("KubeRay's Go module is not in the module cache: go mod download fetches it")
    schema = strict(crd_schema(folder / "ray.io_rayservices.yaml"))
    for values in SETS.values():
        for document in render(values):
            if document["kind"] == "RayService":
                assert problems(document, schema) == []


def test_a_field_that_kuberay_does_not_know_is_found() -> None:
    document = only(render(BASE), "RayService")
    document["spec"]["rayClusterConfig"]["authOptions"]["modus"] = "token"
    document["spec"]["upgradeStrategy"]["type"] = 7
    assert len(problems(document, KUBERAY["RayService"])) == 2


# --- security --------------------------------------------------------------------------------------------------------
@every_set
def test_pods_fit_the_restricted_standard(values: dict[str, Any]) -> None:
    for where, template in pod_specs(render(values)):
        pod = template["spec"]
        context = pod["securityContext"]
        assert context["runAsNonRoot"], where
        assert context["runAsUser"] == 10001, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), where
        assert {next(k for k in volume if k != "name") for volume in pod["volumes"]} <= {"emptyDir", "secret"}, where
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["capabilities"] == {"drop": ["ALL"]}, where
            assert "privileged" not in security, where
            assert not any("hostPort" in port for port in container.get("ports", [])), where
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, where
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, where
            assert container["livenessProbe"], where
            assert container["readinessProbe"], where


@every_set
def test_pods_get_no_token_of_the_api_server_but_for_the_autoscaler(values: dict[str, Any]) -> None:
    documents = render(values)
    services = [document for document in documents if document["kind"] == "RayService"]
    scaled = {s["metadata"]["name"] for s in services if "enableInTreeAutoscaling" in s["spec"]["rayClusterConfig"]}
    for where, template in pod_specs(documents):
        asks = template["spec"]["automountServiceAccountToken"]
        assert asks == (where.endswith(" head") and where.split("/")[1].split()[0] in scaled), where


@every_set
def test_ray_always_asks_for_a_token(values: dict[str, Any]) -> None:
    for document in render(values):
        if document["kind"] == "RayService":
            assert document["spec"]["rayClusterConfig"]["authOptions"]["mode"] == "token"
            assert document["spec"]["rayClusterConfig"]["rayVersion"]  # KubeRay refuses mode token without it
            assert "RAY_AUTH_MODE" not in json.dumps(document)


@every_set
def test_no_image_is_latest_and_no_secret_is_spelt_out(values: dict[str, Any]) -> None:
    documents = render(values)
    for where, template in pod_specs(documents):
        for container in template["spec"]["containers"]:
            assert re.search(r"(@sha256:[0-9a-f]{64}|:(?!latest$)[\w.-]+)$", container["image"]), where
            for variable in container["env"]:
                literal = variable.get("value", "")
                assert (
                    not re.search(r"(?i)(secret|password|access_key|auth_token)$", variable["name"]) or not literal
                ), where
    made = [document for document in documents if document["kind"] == "Secret"]
    assert bool(made) == (not values.get("token", {}).get("existingSecret"))
    for secret in made:
        assert list(secret["data"]) == ["token"]


@every_set
def test_probes_need_no_program_of_the_image_but_python(values: dict[str, Any]) -> None:
    for where, template in pod_specs(render(values)):
        for container in template["spec"]["containers"]:
            for probe in ("livenessProbe", "readinessProbe"):
                assert "exec" not in container[probe], where
            assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "python", where


def test_the_network_policy_closes_rays_ports_but_to_their_own() -> None:
    policy = only(render(BASE), "NetworkPolicy")["spec"]
    for rule in policy["ingress"]:
        ports = {port["port"] for port in rule.get("ports", [])}
        if not rule.get("from"):
            assert ports == {8000}, "only requests may come from everywhere"
        elif not ports:
            assert rule["from"] == [{"podSelector": policy["podSelector"]}]
        elif 8265 in ports:
            assert rule["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "kuberay-operator"}
    template = next(pod_specs(render(BASE)))[1]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


# --- traffic ---------------------------------------------------------------------------------------------------------
TRAFFIC_STEPS: tuple[dict[str, Any], ...] = (
    {"candidate": CANDIDATE, "traffic": {"shadowPercent": 100}},
    {"candidate": CANDIDATE, "traffic": {"candidateWeight": 5, "rollout": "r", "note": "n", "latencyBoundMs": 9}},
    {"candidate": CANDIDATE, "traffic": {"candidateWeight": 50, "outcome": OUTCOME}},
    {"candidate": CANDIDATE, "traffic": {"candidateWeight": 5, "labelHorizonSeconds": 60}},
    {"champion": CANDIDATE},
)


@pytest.mark.parametrize("step", TRAFFIC_STEPS)
@pytest.mark.parametrize("start", ["the least", "workers", "autoscaling"])
def test_a_change_of_traffic_changes_nothing_but_the_user_config_of_the_control(
    start: str, step: dict[str, Any]
) -> None:
    before = render(SETS[start], revision=1)
    after = render(merged(VALUE_SETS[start], step), revision=2)
    told = []
    for documents in (before, after):
        service = only(documents, "RayService")
        config = serve_config(service)
        control = next(app for app in config["applications"] if app["name"] == "fairlead-flights-control")
        (deployment,) = control["deployments"]
        told.append(deployment.pop("user_config"))
        service["spec"]["serveConfigV2"] = config
    assert before == after
    assert told[0] != told[1]
    assert [config["revision"] for config in told] == [1, 2]


def test_what_the_servers_are_told_is_a_release() -> None:
    from fairlead.records.codec import from_value
    from fairlead.records.release import Arm, Release
    from fairlead.records.trial import OutcomeRule
    from fairlead.serve.release_check import check_release

    config = serve_config(only(render(merged(VALUE_SETS["canary and shadow"]), revision=7), "RayService"))
    (control, _) = config["applications"]
    told = control["deployments"][0]["user_config"]
    release = from_value(Release, {**told["release"], "generation": told["revision"]})
    assert check_release(release) is None
    assert release.generation == 7
    assert release.candidate == Arm(2, CANDIDATE["bundleUri"], TWO)
    assert (release.candidate_weight, release.shadow_percent) == (0.5, 12.5)
    assert release.outcome is None
    config = serve_config(only(render(SETS["an A/B test"]), "RayService"))
    told = config["applications"][0]["deployments"][0]["user_config"]
    release = from_value(Release, {**told["release"], "generation": told["revision"]})
    assert check_release(release) is None
    assert release.outcome == OutcomeRule(OUTCOME["metric"], 3600.0, 0.0, 1.0, binary=True, missing=0.0)


def test_workers_keep_replicas_off_the_head() -> None:
    service = only(render(SETS["workers"]), "RayService")["spec"]
    assert service["excludeHeadPodFromServeSvc"] is True
    assert service["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(app["args"]["num_cpus"] > 0 for app in serve_config({"spec": service})["applications"])
    alone = only(render(BASE), "RayService")["spec"]
    assert alone["excludeHeadPodFromServeSvc"] is False
    assert all(app["args"]["num_cpus"] == 0 for app in serve_config({"spec": alone})["applications"])


_CHARTS_OWN = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "RAY_SERVE_HAPROXY_METRICS_ENABLED"}


def ray_settings_that_differ(values: dict[str, Any]) -> set[str]:
    """Names of the laptop's settings that a pod has not, or has otherwise; the same for all pods."""
    differing = []
    for _, template in pod_specs(render(values)):
        environment = {v["name"]: v.get("value") for v in template["spec"]["containers"][0]["env"]}
        differing.append({name for name, value in LOCAL_ENVIRONMENT.items() if environment.get(name) != value})
    assert differing
    assert all(each == differing[0] for each in differing)
    return differing[0]


def test_rays_settings_are_those_of_the_laptop_but_for_draining_and_metrics() -> None:
    assert ray_settings_that_differ(SETS["workers"]) == _CHARTS_OWN


def test_rays_autoscaler_can_count_the_requests() -> None:
    scaled = {**BASE, "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 2}}
    assert ray_settings_that_differ(scaled) == {*_CHARTS_OWN, CALLBACK_VARIABLE}


@pytest.mark.parametrize(("deadline_ms", "seconds"), [(None, "3"), (200, "3"), (2000, "3"), (2001, "4"), (30000, "31")])
def test_the_proxy_waits_longer_than_the_deadline(deadline_ms: float | None, seconds: str) -> None:
    serve = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
    values = {**BASE, "serve": {**BASE.get("serve", {}), **serve}}
    for _, template in pod_specs(render(values)):
        environment = {v["name"]: v.get("value") for v in template["spec"]["containers"][0]["env"]}
        assert environment["RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"] == seconds


def test_a_chart_of_another_version_changes_no_pod(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    import chart_world

    before = list(pod_specs(render(SETS["workers"])))
    copy = tmp_path / "fairlead-model"
    shutil.copytree(CHART, copy)
    chart = (copy / "Chart.yaml").read_text().replace("0.1.0", "0.2.0")
    (copy / "Chart.yaml").write_text(chart)
    monkeypatch.setattr(chart_world, "CHART", copy)
    assert list(pod_specs(render(SETS["workers"]))) == before


# --- gateway, Seldon -------------------------------------------------------------------------------------------------
def test_the_gateways_weights_sum_up_and_name_services_that_kuberay_makes() -> None:
    documents = render(SETS["gateway with a canary"])
    services = {f"{d['metadata']['name']}-serve-svc" for d in documents if d["kind"] == "RayService"}
    assert services == {"flights-champion-serve-svc", "flights-candidate-serve-svc"}
    rules = only(documents, "HTTPRoute")["spec"]["rules"]
    backends = rules[-1]["backendRefs"]
    assert {b["name"] for rule in rules for b in rule["backendRefs"]} == services
    assert [b["weight"] for b in backends] == [8750, 1250]
    told = {d["metadata"]["name"]: serve_config(d)["applications"][0] for d in documents if d["kind"] == "RayService"}
    digests = {n: a["deployments"][0]["user_config"]["release"]["champion"]["digest"] for n, a in told.items()}
    assert digests["flights-candidate"] == TWO
    assert len({a["args"]["record"] for a in told.values()}) == 2, "two controls must not share a record"


def test_the_gateway_mirrors_by_a_fraction() -> None:
    rule = only(render(SETS["gateway with a mirror"]), "HTTPRoute")["spec"]["rules"][-1]
    (mirror,) = rule["filters"]
    assert mirror["requestMirror"]["fraction"] == {"numerator": 3330, "denominator": 10000}
    assert mirror["requestMirror"]["backendRef"]["name"] == "flights-candidate-serve-svc"
    assert [backend["weight"] for backend in rule["backendRefs"]] == [10000, 0]


@pytest.mark.parametrize("name", [name for name in SETS if name.startswith("seldon") and "v2" not in name])
def test_seldons_rules_hold(name: str) -> None:
    spec = only(render(SETS[name]), "SeldonDeployment")["spec"]
    assert spec["protocol"] == "v2"
    shadows = [p for p in spec["predictors"] if p.get("shadow")]
    assert len(shadows) <= 1
    assert sum(p["traffic"] for p in spec["predictors"] if not p.get("shadow")) == 100
    for predictor in spec["predictors"]:
        (container,) = predictor["componentSpecs"][0]["spec"]["containers"]
        assert container["name"] == predictor["graph"]["name"]
        assert container["ports"][0]["containerPort"] == predictor["graph"]["endpoint"]["httpPort"] != 8000


def test_a_seldon_pod_is_told_one_version() -> None:
    from fairlead.serve.pod import read_settings

    for _, template in pod_specs(render(SETS["seldon with a canary"])):
        environment = {v["name"]: v.get("value", "") for v in template["spec"]["containers"][0]["env"]}
        settings = read_settings(environment)
        assert settings.model == "flights"
        assert settings.arm.digest in (BASE["champion"]["digest"], TWO)
        assert (settings.serve.host, settings.serve.port, settings.serve.backend) == ("0.0.0.0", 9000, "process")


def test_an_experiment_of_seldon_v2_splits_and_mirrors() -> None:
    spec = only(render(SETS["seldon-v2 with an experiment"]), "Experiment")["spec"]
    assert spec["candidates"] == [{"name": "flights-1", "weight": 90}, {"name": "flights-2", "weight": 10}]
    assert spec["mirror"] == {"name": "flights-2", "percent": 5}


# --- watching --------------------------------------------------------------------------------------------------------
def test_alerts_use_metrics_that_there_are_and_sections_of_the_runbook() -> None:
    from prometheus_client.metrics import MetricWrapperBase

    from fairlead.serve.metrics import Metrics

    known = set()
    for collector in vars(Metrics("m")).values():
        if isinstance(collector, MetricWrapperBase):
            (metric,) = collector.describe()
            known |= {metric.name, f"{metric.name}_total", f"{metric.name}_bucket"}
    runbook = (CHART / "RUNBOOK.md").read_text()
    (group,) = only(render(SETS["runbook elsewhere"]), "PrometheusRule")["spec"]["groups"]
    for rule in group["rules"]:
        assert set(re.findall(r"fairlead_\w+", rule["expr"])) <= known, rule["alert"]
        assert f"\n## {rule['alert']}\n" in runbook
        assert rule["annotations"]["runbook_url"] == f"https://w.example.com/r#{rule['alert'].lower()}"


def test_the_dashboard_has_a_panel_per_metric_of_this_model() -> None:
    (content,) = only(render(SETS["everything watched"]), "ConfigMap")["data"].values()
    dashboard = json.loads(content)
    assert dashboard["title"] == "Fairlead: flights"
    assert "__MODEL__" not in content
    assert len(dashboard["panels"]) >= 12


def test_no_budget_is_made_that_would_keep_a_node_from_being_drained() -> None:
    kinds = [document["kind"] for document in render(BASE)]
    assert "PodDisruptionBudget" not in kinds
    assert "No PodDisruptionBudget was made" in render_text(BASE)["NOTES.txt"]
    documents = render(SETS["workers"])
    selector = only(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    worker = next(template for where, template in pod_specs(documents) if where.endswith("serving"))
    assert selector.items() <= {**worker["metadata"]["labels"], "ray.io/node-type": "worker"}.items()


@every_set
def test_rendering_is_deterministic(values: dict[str, Any]) -> None:
    values = merged(values, {"token": {"existingSecret": "control"}})  # the one thing that is random on purpose
    assert render_text(values, revision=3) == render_text(values, revision=3)


@every_set
def test_the_notes_say_the_next_three_commands(values: dict[str, Any]) -> None:
    notes = render_text(values)["NOTES.txt"]
    commands = [line for line in notes.splitlines() if line.startswith(("  kubectl ", "  curl "))]
    assert len(commands) == 3
    assert "<no value>" not in notes


# --- refusals --------------------------------------------------------------------------------------------------------
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": ""}, "model"),
    "no champion": ({"champion": {"digest": ""}}, "champion"),
    "a weight without a candidate": ({"traffic": {"candidateWeight": 5}}, "candidateWeight is 5 without a candidate"),
    "copies without a candidate": ({"traffic": {"shadowPercent": 5}}, "shadowPercent is 5 without a candidate"),
    "a weight over 100": ({"candidate": CANDIDATE, "traffic": {"candidateWeight": 101}}, "candidateWeight"),
    "copies below 0": ({"candidate": CANDIDATE, "traffic": {"shadowPercent": -1}}, "shadowPercent"),
    "half a candidate": ({"candidate": {"version": 2}}, "candidate is incomplete"),
    "the champion as candidate": ({"candidate": {**CANDIDATE, "digest": ONE}}, "is the champion"),
    "a digest that is none": ({"champion": {"digest": "sha256:abc"}}, "digest"),
    "two sticky keys": ({"traffic": {"sticky": "a"}, "serve": {"sticky": "b"}}, "differ"),
    "a store that is a folder": ({"store": {"uri": ".fairlead"}}, "store"),
    "latest": ({"image": {"tag": "latest"}}, "image.tag is latest"),
    "no tag": ({"image": {"tag": ""}}, "neither tag nor digest"),
    "no image": ({"image": {"repository": ""}}, "repository"),
    "an unknown key": ({"trafic": {}}, "trafic"),
    "an unknown key of serve": ({"serve": {"deadline": 3}}, "deadline"),
    "an unknown backend": ({"backend": "kserve"}, "backend"),
    "authentication switched off": ({"env": [{"name": "RAY_AUTH_MODE", "value": "disabled"}]}, "env sets RAY_AUTH"),
    "too many workers": ({"ray": {"workers": {**WORKERS, "replicas": 3}}}, "ray.workers.replicas is 3"),
    "a range upside down": ({"autoscaling": {"enabled": True, "minReplicas": 5}}, "minReplicas is above"),
    "a gateway without parents": ({"gateway": {"enabled": True}}, "without gateway.parentRefs"),
    "a sticky gateway": ({"gateway": GATEWAY, "traffic": {"sticky": "x"}}, "sticky"),
    "a gateway for Seldon": ({"backend": "seldon", "gateway": GATEWAY}, "itself"),
    "sticky Seldon": ({"backend": "seldon", "traffic": {"sticky": "x"}}, "sticky with backend seldon"),
    "half a percent for Seldon": (
        {"backend": "seldon", "candidate": CANDIDATE, "traffic": {"candidateWeight": 0.5}}, "whole percents",
    ),
    "traffic and copies for Seldon": (
        {"backend": "seldon", "candidate": CANDIDATE, "traffic": {"candidateWeight": 5, "shadowPercent": 5}},
        "a shadow",
    ),
    "one port for two arms": (
        {"gateway": GATEWAY, "service": {"nodePort": 30000}}, "same port",
    ),
    "a name that is too long": ({"fullnameOverride": "a" * 38}, "has 38 characters"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_values_that_contradict_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ChartRefused, match=re.escape(message)):
        render(merged(values))


def test_a_refusal_says_why_and_what_to_do() -> None:
    with pytest.raises(ChartRefused) as refused:
        render(merged({"traffic": {"candidateWeight": 5}}))
    assert "why: nobody could answer that share" in str(refused.value)
    assert "fix: set candidate, or traffic.candidateWeight=0" in str(refused.value)
