"""What must agree across files: image, manifests as rendered, Argo CD, workflows, locks."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest

from app import create_app
from helpers import ROOT
from manifests import (
    ARGO,
    CONTAINER,
    CUSTOM,
    GUNICORN,
    OLDEST_KUBERNETES,
    OVERLAYS,
    POD,
    PORT,
    RENDERED,
    WORKFLOWS,
    documents,
    render,
    the,
)
from serving.api.routing import ADMIN_PATHS
from serving.config import Settings

DIGEST = re.compile("sha256:[0-9a-f]{64}")

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


ROUTES = {rule.rule for rule in create_app().url_map.iter_rules() if "GET" in rule.methods}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def images(overlay):
    """Return the image of every container in an overlay, whatever makes its pod."""
    specs = [
        one["spec"]["template"]["spec"]
        for one in RENDERED[overlay]
        if "template" in one.get("spec", {})
    ]
    assert len(specs) == 2
    return {container["image"] for spec in specs for container in spec["containers"]}


def instructions(name):
    """Return the arguments of each instruction `name` in the Dockerfile, in order."""
    return [
        line.partition(" ")[2].strip()
        for line in DOCKERFILE.splitlines()
        if line.startswith(f"{name} ")
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_rendered_object_is_valid_where_it_says_it_runs(overlay):
    for one in RENDERED[overlay]:
        assert one["metadata"]["namespace"] == f"ml-model-{overlay}"
        assert re.fullmatch("ml-model(-check|-canary|-dashboard)?", one["metadata"]["name"])
        if not CUSTOM.search(one["apiVersion"]):  # test_crds.py has those
            kubernetes_validate.validate(one, OLDEST_KUBERNETES, strict=True)


def test_no_manifest_is_an_orphan():
    # What begins a tree, and what README says how to add.
    listed = {ROOT / "k8s" / name for name in ("argocd", "argocd/experiment.yaml", "components/ab")}
    listed |= {ROOT / "k8s/components/batch", ROOT / "k8s/components/registry"}
    for application in ARGO:
        if application["kind"] == "Application":
            listed.add(ROOT / application["spec"]["source"]["path"])
    for path in (ROOT / "k8s").rglob("kustomization.yaml"):
        [kustomization] = documents(path)
        named = kustomization.get("resources", []) + kustomization.get("components", [])
        named += [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
        listed |= {(path.parent / name).resolve() for name in named}
    there = {
        path.parent if path.name == "kustomization.yaml" else path
        for path in (ROOT / "k8s").rglob("*.yaml")
    }
    assert listed == there


def test_one_port_from_gunicorn_to_the_service():
    assert instructions("EXPOSE") == [str(PORT)]
    port, metrics = CONTAINER["ports"]
    assert port == {"name": "http", "containerPort": PORT}
    [exposed] = the("Service")["spec"]["ports"]
    assert exposed["targetPort"] == port["name"]
    [asked] = [one["value"] for one in CONTAINER["env"] if one["name"] == "METRICS_PORT"]
    assert metrics == {"name": "metrics", "containerPort": int(asked)}
    [endpoint] = the("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == metrics["name"] and endpoint["path"] in ADMIN_PATHS
    assert {
        CONTAINER[f"{probe}Probe"]["httpGet"]["port"]
        for probe in ("startup", "readiness", "liveness")
    } == {"http"}
    assert f"http://localhost:{PORT}" in (ROOT / "Makefile").read_text()


def test_the_network_policy_admits_the_gateway_the_check_and_prometheus_and_nobody_else():
    spec = the("NetworkPolicy")["spec"]
    gateway, prometheus = (
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
        for name in ("gateway", "monitoring")
    )
    check = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ml-model-check"}}}
    assert spec["ingress"] == [
        {"from": [gateway, check], "ports": [{"port": "http"}]},
        {"from": [prometheus], "ports": [{"port": "metrics"}]},
    ]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    outward = the("NetworkPolicy", name="ml-model-check")["spec"]
    [dns] = spec["egress"]
    to_service = {"to": [{"podSelector": spec["podSelector"]}], "ports": [{"port": "http"}]}
    assert outward["egress"] == [to_service, dns]
    assert "ingress" not in outward and set(outward["policyTypes"]) == {"Ingress", "Egress"}
    job = the("Job", name="ml-model-check")["spec"]["template"]["metadata"]["labels"]
    assert (
        outward["podSelector"]["matchLabels"].items() <= job.items()
        and check["podSelector"] == outward["podSelector"]
    )
    assert not the("Service")["spec"]["selector"].items() <= job.items()


def test_the_check_asks_the_service_after_each_sync():
    job = the("Job", name="ml-model-check")
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "PostSync"
    [container] = job["spec"]["template"]["spec"]["containers"]
    service = the("Service")
    assert container["command"] == [
        "python",
        "-m",
        "serving.smoke_test",
        f"http://{service['metadata']['name']}",
    ]
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert (ROOT / "serving/smoke_test.py").exists()
    assert container["env"] == [one for one in CONTAINER["env"] if one["name"] == "API_KEYS"]


def test_probes_ask_routes_that_exist():
    paths = {
        probe: CONTAINER[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "readiness", "liveness")
    }
    assert set(paths.values()) <= ROUTES
    assert paths["readiness"] == "/readyz" and paths["liveness"] == "/healthz"
    [healthcheck] = instructions("HEALTHCHECK")
    assert re.search("'(/[a-z]+)'", healthcheck)[1] in ROUTES


def test_one_user_a_number_and_not_root():
    [user] = set(instructions("USER"))
    uid, gid = map(int, user.split(":"))
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (
        uid,
        gid,
        True,
    )
    assert uid > 9999


def assert_restricted(pod):
    """Assert that a pod is what the restricted standard asks, and more."""
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert (
            context["allowPrivilegeEscalation"] is False
            and context["readOnlyRootFilesystem"] is True
        )
        assert context["capabilities"] == {"drop": ["ALL"]}
        resources = container["resources"]
        # Memory is reserved in full; the CPU is not limited, as a limit throttles while the node stands idle.
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}
        assert "cpu" in resources["requests"]
    assert pod["securityContext"] == POD["securityContext"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("emptyDir" in volume for volume in pod.get("volumes", []))


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_every_pod_meets_the_restricted_standard_that_its_namespace_enforces(kind):
    [pod] = [
        one["spec"]["template"]["spec"] for one in RENDERED["production"] if one["kind"] == kind
    ]
    assert_restricted(pod)


def test_each_namespace_enforces_the_restricted_standard():
    for application in (one for one in ARGO if one["kind"] == "Application"):
        labels = application["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]
        assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_the_grace_period_covers_the_drain():
    wait = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait >= CONTAINER["readinessProbe"]["periodSeconds"]
    assert wait + GUNICORN["graceful_timeout"] + 5 <= POD["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_pod_and_the_autoscaler_owns_the_replicas(overlay):
    deployment = the("Deployment", overlay)
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        the("Service", overlay)["spec"]["selector"],
        the("PodDisruptionBudget", overlay)["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy", overlay)["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in POD["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    autoscaler = the("HorizontalPodAutoscaler", overlay)["spec"]
    scaled = the("Rollout" if overlay == "production" else "Deployment", overlay)
    target = {
        "apiVersion": scaled["apiVersion"],
        "kind": scaled["kind"],
        "name": scaled["metadata"]["name"],
    }
    assert autoscaler["scaleTargetRef"] == target
    assert 2 <= autoscaler["minReplicas"] <= autoscaler["maxReplicas"]
    assert "replicas" not in scaled["spec"]
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == the("ServiceAccount", overlay)["metadata"]["name"]


def test_the_rollout_makes_its_pods_from_the_deployment_that_makes_none():
    rollout, deployment = the("Rollout"), the("Deployment")
    reference = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert rollout["spec"]["workloadRef"] == reference
    assert deployment["spec"]["replicas"] == 0
    assert "template" not in rollout["spec"]  # so that there is one image to pin
    assert rollout["spec"]["selector"] == deployment["spec"]["selector"]
    assert rollout["spec"]["minReadySeconds"] == deployment["spec"]["minReadySeconds"]
    canary = rollout["spec"]["strategy"]["canary"]
    looks = [step["analysis"] for step in canary["steps"] if "analysis" in step]
    assert len(looks) == 2
    template = the("AnalysisTemplate")
    for look in looks:
        assert look["templates"] == [{"templateName": template["metadata"]["name"]}]
        assert [one["name"] for one in look["args"]] == [
            one["name"] for one in template["spec"]["args"]
        ]
    roles = {canary[f"{role}Metadata"]["labels"]["role"] for role in ("canary", "stable")}
    assert roles == {"canary", "stable"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_runs_is_named_by_digest_and_is_what_the_release_pushes(overlay):
    [image] = images(overlay)  # the check runs what it checks
    name, _, digest = image.partition("@")
    assert DIGEST.fullmatch(digest)
    assert name == WORKFLOWS["release.yml"]["env"]["IMAGE"]


def test_an_ab_test_splits_productions_traffic_as_the_readme_says(copy):
    overlay = copy / "k8s/overlays/production/kustomization.yaml"
    overlay.write_text(
        overlay.read_text().replace("components:\n", "components:\n  - ../../components/ab\n")
    )
    rendered = render(overlay.parent)
    [route] = [one for one in rendered if one["kind"] == "HTTPRoute"]
    *chosen, drawn = route["spec"]["rules"]
    assert sum(backend["weight"] for backend in drawn["backendRefs"]) == 100
    variants = {}
    for rule in chosen:
        [header], [backend] = rule["matches"][0]["headers"], rule["backendRefs"]
        variants[header["value"]] = backend
    assert variants.keys() == {"a", "b"}
    assert [{**one, "weight": 0} for one in drawn["backendRefs"]] == [
        {**variants[v], "weight": 0} for v in "ab"
    ]
    for backend in variants.values():
        overlay = backend.get("namespace", "ml-model-production").removeprefix("ml-model-")
        assert backend["name"] == the("Service", overlay)["metadata"]["name"]
        assert [backend["port"]] == [
            port["port"] for port in the("Service", overlay)["spec"]["ports"]
        ]
    grant = the("ReferenceGrant", "experiment")["spec"]
    assert grant["from"] == [
        {
            "group": "gateway.networking.k8s.io",
            "kind": "HTTPRoute",
            "namespace": route["metadata"]["namespace"],
        }
    ]
    assert grant["to"] == [{"group": "", "kind": "Service", "name": "ml-model"}]


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_with_the_component_registry_pods_pull_the_version_that_they_serve_and_check(copy, overlay):
    path = copy / "k8s/overlays" / overlay / "kustomization.yaml"
    own, _, listed = path.read_text().partition("components:\n")
    path.write_text(f"{own}components:\n  - ../../components/registry\n{listed}")
    rendered = render(path.parent)
    for one in rendered:
        if not CUSTOM.search(one["apiVersion"]):
            kubernetes_validate.validate(one, OLDEST_KUBERNETES, strict=True)
    pods = [
        one["spec"]["template"]["spec"] for one in rendered if one["kind"] in ("Deployment", "Job")
    ]
    assert len(pods) == 2
    assert pods[0]["initContainers"] == pods[1]["initContainers"]
    for pod in pods:
        assert_restricted(pod)
        [init], [container] = pod["initContainers"], pod["containers"]
        command, uri, option, file = init["args"]
        assert (command, option) == ("pull", "--model") and re.fullmatch(
            "models:/[a-z]+/[0-9]+", uri
        )
        [variable] = [one["value"] for one in container["env"] if one["name"] == "MODEL_PATH"]
        assert variable == file
        [written] = init["volumeMounts"]
        assert written in [
            {k: v for k, v in mount.items() if k != "readOnly"}
            for mount in container["volumeMounts"]
        ]
        assert Path(file).parent == Path(written["mountPath"]) == Path(init["env"][-1]["value"])
        assert written["name"] in [volume["name"] for volume in pod["volumes"]]
        assert DIGEST.fullmatch(
            init["image"].removeprefix(f"{WORKFLOWS['release.yml']['env']['IMAGE']}@")
        )
    [server] = [one["value"] for one in init["env"] if one["name"] == "MLFLOW_TRACKING_URI"]
    _, namespace, port = re.fullmatch(r"http://(\w+)\.(\w+):([0-9]+)", server).groups()
    policies = [one["spec"] for one in rendered if one["kind"] == "NetworkPolicy"]
    for before in (
        the("NetworkPolicy", overlay, name)["spec"] for name in ("ml-model", "ml-model-check")
    ):
        [after] = [one for one in policies if one["podSelector"] == before["podSelector"]]
        *others, added = after["egress"]
        assert others == before["egress"]
        to = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        assert added == {"to": [to], "ports": [{"protocol": "TCP", "port": int(port)}]}


def test_the_nightly_batch_is_restricted_and_alone_and_ends(copy):
    overlay = copy / "k8s/overlays/production/kustomization.yaml"
    overlay.write_text(
        overlay.read_text().replace("components:\n", "components:\n  - ../../components/batch\n")
    )
    rendered = {(one["kind"], one["metadata"]["name"]): one for one in render(overlay.parent)}
    added = {kind for kind, name in rendered if name == "ml-model-batch"}
    assert added == {"CronJob", "NetworkPolicy", "PersistentVolumeClaim", "ServiceAccount"}
    for kind in added:
        kubernetes_validate.validate(
            rendered[kind, "ml-model-batch"], OLDEST_KUBERNETES, strict=True
        )
    spec = rendered["CronJob", "ml-model-batch"]["spec"]
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["startingDeadlineSeconds"] >= 100
    assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= spec.keys()
    assert {"activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"} <= job.keys()
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"] == POD["securityContext"] | {
        "fsGroup": POD["securityContext"]["runAsGroup"]
    }
    assert container["securityContext"] == CONTAINER["securityContext"]
    assert pod["automountServiceAccountToken"] is False and pod["restartPolicy"] == "Never"
    assert (
        pod["serviceAccountName"]
        == rendered["ServiceAccount", "ml-model-batch"]["metadata"]["name"]
    )
    resources = container["resources"]
    assert (
        resources["limits"] == {"memory": resources["requests"]["memory"]}
        and "cpu" in resources["requests"]
    )
    assert re.fullmatch(
        rf"{WORKFLOWS['release.yml']['env']['IMAGE']}@{DIGEST.pattern}", container["image"]
    )
    [mount], [volume] = container["volumeMounts"], pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "ml-model-batch"
    source, target, *words = container["args"]
    assert source.startswith(mount["mountPath"]) and target.startswith(mount["mountPath"])
    assert words == ["--on-error", "skip"] and '["python", "batch.py"]' in instructions(
        "ENTRYPOINT"
    )
    policy = rendered["NetworkPolicy", "ml-model-batch"]["spec"]
    labels = job["template"]["metadata"]["labels"]
    assert policy == {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]}
    assert not the("Service")["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_sets_only_what_the_program_reads(overlay):
    [container] = the("Deployment", overlay)["spec"]["template"]["spec"]["containers"]
    assert {variable["name"] for variable in container["env"]} <= {
        name.upper() for name in Settings.__annotations__
    }


@pytest.fixture
def copy(tmp_path):
    """Return a copy of what people edit to deploy, and what edits it."""
    for name in ("Makefile", "k8s", ".github", "Dockerfile", "pyproject.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    return tmp_path


def make(directory, *words):
    return subprocess.run(
        ["make", "--directory", directory, *words], capture_output=True, text=True
    )


def texts(directory):
    files = [
        path
        for name in ("k8s", ".github")
        for path in (directory / name).rglob("*")
        if path.is_file()
    ]
    return {str(path.relative_to(directory)): path.read_text() for path in files}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_release_changes_one_line_and_every_pod_carries_it(copy, overlay):
    digest = f"sha256:{'1a' * 32}"
    before = texts(copy)
    refused = make(copy, "pin", f"OVERLAY={overlay}", "DIGEST=latest")
    assert (
        refused.returncode == 2 and "DIGEST: expected sha256: and 64 hex digits" in refused.stdout
    )
    assert texts(copy) == before
    assert make(copy, "pin", f"OVERLAY={overlay}", f"DIGEST={digest}").returncode == 0
    changed = f"k8s/overlays/{overlay}/kustomization.yaml"
    expected, changes = DIGEST.subn(digest, before[changed])
    assert changes == 1
    assert texts(copy) == before | {changed: expected}
    rendered = render(copy / "k8s/overlays" / overlay)
    pods = [
        one["spec"]["template"]["spec"] for one in rendered if one["kind"] in ("Deployment", "Job")
    ]
    assert {
        container["image"].partition("@")[2] for pod in pods for container in pod["containers"]
    } == {digest}


def test_promoting_is_the_same_digest_in_production(copy):
    digest = f"sha256:{'2b' * 32}"
    make(copy, "pin", "OVERLAY=staging", f"DIGEST={digest}")
    before = texts(copy)
    assert make(copy, "promote").returncode == 0
    changed = "k8s/overlays/production/kustomization.yaml"
    assert texts(copy) == before | {changed: DIGEST.sub(digest, before[changed])}
    assert make(copy, "--silent", "digest", "OVERLAY=production").stdout == f"{digest}\n"


@pytest.mark.parametrize(
    "names", [("REPO=it", "IMAGE=ghcr.io/me/it"), ("REPO=https://github.com/me/it", "IMAGE=it")]
)
def test_names_that_are_not_names_are_refused(copy, names):
    before = texts(copy)
    assert "expected" in make(copy, "adopt", *names).stdout
    assert texts(copy) == before


def test_to_adopt_it_is_one_step_and_nothing_else_needs_an_edit(copy):
    repo, image = "https://github.com/me/my-model", "ghcr.io/me/my-model"
    before = texts(copy)
    assert make(copy, "adopt", f"REPO={repo}.git", f"IMAGE={image}").returncode == 0
    after = texts(copy)
    changed = [
        line
        for name in after
        for line in after[name].splitlines()
        if line not in before[name].splitlines()
    ]
    assert len(changed) == 10 and all(line.endswith((f" {repo}", f" {image}")) for line in changed)
    assert not [name for name, text in after.items() if re.search(r"example/|\bexample\.", text)]
    signed = make(copy, "--dry-run", "verify", "DIGEST=sha256:0").stdout
    assert (
        f"{repo}/.github/workflows/release.yml@refs/heads/main" in signed
        and f"{image}@sha256:0" in signed
    )
    assert (copy / ".github/workflows/release.yml").exists()
    # Back again: the names stand where the task finds them.
    old = ("REPO=https://github.com/example/flask-ml-model", "IMAGE=ghcr.io/example/flask-ml-model")
    assert make(copy, "adopt", *old).returncode == 0
    assert texts(copy) == before


def test_argo_cd_may_sync_what_is_rendered_and_nothing_else():
    [project] = [one["spec"] for one in ARGO if one["kind"] == "AppProject"]
    applications = {
        one["metadata"]["name"]: one["spec"] for one in ARGO if one["kind"] == "Application"
    }
    assert applications.keys() == {f"ml-model-{overlay}" for overlay in OVERLAYS}
    for name, spec in applications.items():
        assert spec["project"] == "ml-model"
        assert (
            spec["source"]["path"]
            == f"k8s/overlays/{spec['destination']['namespace'].removeprefix('ml-model-')}"
        )
        assert spec["source"]["repoURL"] in project["sourceRepos"]
        assert spec["destination"] in project["destinations"]
        assert spec["destination"]["namespace"] == name
    objects = [one for overlay in OVERLAYS for one in RENDERED[overlay]]
    objects += documents(ROOT / "k8s/components/ab/httproute.yaml")
    objects += [
        one for path in (ROOT / "k8s/components/batch").glob("*.yaml") for one in documents(path)
    ]
    objects = [one for one in objects if one["kind"] != "Component"]
    rendered = {(one["apiVersion"].rpartition("/")[0], one["kind"]) for one in objects}
    assert {
        (one["group"], one["kind"]) for one in project["namespaceResourceWhitelist"]
    } == rendered
    assert project["clusterResourceWhitelist"] == [
        {"group": "", "kind": "Namespace", "name": "ml-model-*"}
    ]


MAY_WRITE = {
    ("release.yml", "image"): {"packages", "id-token"},
    ("release.yml", "pin"): {"contents"},
    ("promote.yml", "pull-request"): {"contents", "pull-requests"},
}
STEPS = [
    (f"{file}:{name}", step)
    for file, workflow in WORKFLOWS.items()
    for name, job in workflow["jobs"].items()
    for step in job.get("steps", [])
]


def test_every_action_is_pinned_by_commit_and_named_by_version():
    for file in WORKFLOWS:
        for line in (ROOT / ".github/workflows" / file).read_text().splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_no_job_has_more_than_it_needs():
    for file, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {}
        assert "concurrency" in workflow
        for name, job in workflow["jobs"].items():
            assert "uses" in job or job["timeout-minutes"] <= 30
            writes = {scope for scope, access in job["permissions"].items() if access == "write"}
            assert writes == MAY_WRITE.get((file, name), set())
    for where, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where
        assert "${{" not in step.get("run", ""), (
            where
        )  # text from outside must not become a command
    assert "secrets." not in (ROOT / ".github/workflows/ci.yml").read_text()


def test_a_release_is_scanned_signed_and_verified_before_anything_names_it():
    steps = WORKFLOWS["release.yml"]["jobs"]["image"]["steps"]
    order = [step.get("uses", step.get("run", "")).split("@")[0].split("\n")[0] for step in steps]
    push, scan = order.index("docker/build-push-action"), order.index("anchore/scan-action")
    sign = len(steps) - 1
    assert push < scan < sign
    assert steps[push]["with"]["sbom"] is True and steps[push]["with"]["provenance"] == "mode=max"
    assert (
        "push-by-digest=true" in steps[push]["with"]["outputs"]
        and "tags" not in steps[push]["with"]
    )
    assert (
        steps[scan]["with"]["severity-cutoff"] == "high" and "fail-build" not in steps[scan]["with"]
    )
    first, second = steps[sign]["run"].splitlines()
    assert first.startswith("cosign sign --yes") and second.startswith("make verify")
    assert WORKFLOWS["release.yml"]["jobs"]["pin"]["needs"] == "image"
    assert not any("latest" in text for name, text in texts(ROOT).items())


def test_a_pinned_digest_does_not_begin_another_release():
    on = WORKFLOWS["release.yml"][True]  # what `on` means in YAML
    assert on == {"push": {"branches": ["main"], "paths-ignore": ["k8s/overlays/**"]}}


def test_ci_runs_what_a_person_runs():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [shlex.split(line) for _, step in STEPS for line in step.get("run", "").splitlines()]
    ran = {words[words.index("make") + 1] for words in commands if "make" in words}
    assert (
        ran
        == {
            *(
                "lint",
                "test",
                "test-crds",
                "test-monitoring",
                "test-clients",
                "test-registry",
                "test-batch",
            ),
            *("image-test", "pin", "promote", "verify"),
        }
        and ran <= targets
    )


def test_python_is_the_same_everywhere():
    versions = WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    oldest = versions[0]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    makefile = (ROOT / "Makefile").read_text()
    assert f"--python-version {oldest} " in makefile
    assert f"sys.version_info >= ({oldest.replace('.', ', ')})" in makefile
    shipped = re.search(r"python:([0-9.]+)-slim", DOCKERFILE)[1]
    assert {shipped} == {
        step["with"]["python-version"]
        for _, step in STEPS
        if "python-version" in step.get("with", {})
    } - {"${{ matrix.python }}"}
    assert shipped in versions


def test_the_base_image_is_named_by_tag_and_digest_and_once():
    base, *others, shipped = instructions("FROM")
    assert re.fullmatch(
        rf"docker\.io/library/python:3\.\d+-slim-trixie@{DIGEST.pattern} AS python", base
    )
    assert shipped == "python"  # the last stage is what is built unless another is asked for
    # One line for whoever updates it.
    assert all(re.fullmatch(r"(python|build) AS [a-z-]+", stage) for stage in others)


def test_the_image_starts_without_a_shell_and_as_in_the_makefile():
    assert instructions("CMD")[-1] == '["gunicorn", "app:app"]'
    assert "\texec $(BIN)/gunicorn app:app\n" in (ROOT / "Makefile").read_text()


def test_only_what_is_named_reaches_the_image():
    ignored, *allowed = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert ignored == "*"
    copied = [
        name for copy in instructions("COPY") if "--from" not in copy for name in copy.split()[:-1]
    ]
    assert {line.removeprefix("!").removesuffix("/**/*.py") for line in allowed} == set(copied)
    assert all((ROOT / name).exists() for name in copied)


def pins(file):
    """Return name -> version in a lock, each of which has a hash."""
    found = {}
    for requirement in re.split(r"\n(?=[a-z0-9])", (ROOT / file).read_text()):
        if match := re.match(r"([a-z0-9-]+)==([^ ;\\]+)", requirement):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement
            found[match[1]] = match[2]
    return found


def test_locks_hold_what_is_declared_with_hashes_and_no_address():
    serving, development = pins("requirements.txt"), pins("requirements/dev.txt")
    declared = PROJECT["project"]["dependencies"]
    assert {re.match("[a-z-]+", line)[0] for line in declared} <= serving.keys()
    assert set(PROJECT["dependency-groups"]["dev"]) <= development.keys()
    assert serving.items() <= development.items()
    registry, tried = pins("requirements/registry.txt"), pins("requirements/registry-dev.txt")
    assert {
        re.match("[a-z0-9-]+", line)[0] for line in PROJECT["dependency-groups"]["registry"]
    } <= registry.keys()
    assert {
        re.match("[a-z0-9-]+", line)[0] for line in PROJECT["dependency-groups"]["registry-dev"]
    } <= tried.keys()
    assert serving.items() <= registry.items() <= tried.items()
    for file in (
        "requirements.txt",
        "requirements/dev.txt",
        "requirements/clients.txt",
        "requirements/registry.txt",
        "requirements/registry-dev.txt",
        "requirements/batch.txt",
        "requirements/bench.txt",
    ):
        text = (ROOT / file).read_text()
        assert "://" not in text and "--index-url" not in text and "make lock" in text


def test_the_batch_has_its_own_lock_which_agrees_with_the_others():
    batch, bench = pins("requirements/batch.txt"), pins("requirements/bench.txt")
    assert set(PROJECT["dependency-groups"]["batch"]) <= batch.keys()
    assert set(PROJECT["dependency-groups"]["bench"]) <= bench.keys()
    assert pins("requirements.txt").items() <= batch.items() <= bench.items()
    development = pins("requirements/dev.txt")
    assert all(
        development.get(name, pin) == pin for name, pin in batch.items()
    )  # `make test-batch` has both
    assert not pins("requirements.txt").keys() & set(PROJECT["dependency-groups"]["batch"])


def test_the_image_carries_no_tool():
    serving = pins("requirements.txt").keys()
    assert not serving & set(PROJECT["dependency-groups"]["dev"])
    assert not serving & {"pandas", "mlflow-skinny", "boto3", "pip", "setuptools"}
    assert len(serving) <= 20
