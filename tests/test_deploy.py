"""What must agree across files: image, manifests as rendered, Argo CD, workflows, locks."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from app import DEFAULTS, create_app
from conftest import ROOT

OVERLAYS = ("staging", "production")
OLDEST_KUBERNETES = "1.34"  # the sleep action of preStop is stable since then
BIN = Path(sys.executable).parent  # kubectl is a package here
DIGEST = re.compile("sha256:[0-9a-f]{64}")

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


class Environ(dict):
    """An empty environment that remembers what it was asked for."""

    def get(self, name, default=None):
        self[name] = default
        return default

    def setdefault(self, name, default):
        return default


with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, "environ", ENVIRON := Environ())
    GUNICORN = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
[BIND] = GUNICORN["bind"]
PORT = int(BIND.partition(":")[2])
ROUTES = {rule.rule for rule in create_app().url_map.iter_rules() if "GET" in rule.methods}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def render(path):
    done = subprocess.run([BIN / "kubectl", "kustomize", ROOT / path], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


RENDERED = {overlay: render(f"k8s/overlays/{overlay}") for overlay in OVERLAYS}
ARGO = render("k8s/argocd")
WORKFLOWS = {path.name: documents(path)[0] for path in sorted((ROOT / ".github/workflows").iterdir())}


def the(kind, overlay="production"):
    [found] = [one for one in RENDERED[overlay] if one["kind"] == kind]
    return found


def instructions(name):
    """Return the arguments of each instruction `name` in the Dockerfile, in order."""
    return [line.partition(" ")[2].strip() for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


POD = the("Deployment")["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_rendered_object_is_valid_where_it_says_it_runs(overlay):
    for one in RENDERED[overlay]:
        kubernetes_validate.validate(one, OLDEST_KUBERNETES, strict=True)
        assert one["metadata"]["namespace"] == f"ml-model-{overlay}"
        assert one["metadata"]["name"] == "ml-model"


def test_no_manifest_is_an_orphan():
    listed = {ROOT / "k8s/overlays/staging", ROOT / "k8s/overlays/production", ROOT / "k8s/argocd"}
    for path in (ROOT / "k8s").rglob("kustomization.yaml"):
        [kustomization] = documents(path)
        listed |= {(path.parent / resource).resolve() for resource in kustomization["resources"]}
    there = {path.parent if path.name == "kustomization.yaml" else path for path in (ROOT / "k8s").rglob("*.yaml")}
    assert listed == there


def test_one_port_from_gunicorn_to_the_service():
    assert instructions("EXPOSE") == [str(PORT)]
    [port] = CONTAINER["ports"]
    assert port == {"name": "http", "containerPort": PORT}
    [exposed] = the("Service")["spec"]["ports"]
    [allowed] = the("NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert exposed["targetPort"] == allowed["port"] == port["name"]
    assert {CONTAINER[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "readiness", "liveness")} == {"http"}
    assert f"http://localhost:{PORT}" in (ROOT / "Makefile").read_text()


def test_probes_ask_routes_that_exist():
    paths = {probe: CONTAINER[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert set(paths.values()) <= ROUTES
    assert paths["readiness"] == "/readyz" and paths["liveness"] == "/healthz"
    [healthcheck] = instructions("HEALTHCHECK")
    assert re.search("'(/[a-z]+)'", healthcheck)[1] in ROUTES


def test_one_user_a_number_and_not_root():
    [user] = instructions("USER")
    uid, gid = map(int, user.split(":"))
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (uid, gid, True)
    assert uid > 9999


def test_the_pod_meets_the_restricted_standard_that_its_namespace_enforces():
    context = CONTAINER["securityContext"]
    assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    assert all("emptyDir" in volume for volume in POD["volumes"])
    for application in (one for one in ARGO if one["kind"] == "Application"):
        labels = application["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]
        assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_the_grace_period_covers_the_drain():
    wait = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait >= CONTAINER["readinessProbe"]["periodSeconds"]
    assert wait + GUNICORN["graceful_timeout"] + 5 <= POD["terminationGracePeriodSeconds"]


def test_memory_is_reserved_in_full_and_cpu_is_not_limited():
    resources = CONTAINER["resources"]
    assert resources["limits"] == {"memory": resources["requests"]["memory"]}
    assert "cpu" in resources["requests"]


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
    target = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert autoscaler["scaleTargetRef"] == target
    assert 2 <= autoscaler["minReplicas"] <= autoscaler["maxReplicas"]
    assert "replicas" not in deployment["spec"]
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == the("ServiceAccount", overlay)["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_runs_is_named_by_digest_and_is_what_the_release_pushes(overlay):
    [container] = the("Deployment", overlay)["spec"]["template"]["spec"]["containers"]
    name, _, digest = container["image"].partition("@")
    assert DIGEST.fullmatch(digest)
    assert name == WORKFLOWS["release.yml"]["env"]["IMAGE"]
    assert name.endswith("/flask-ml-model")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_sets_only_what_the_program_reads(overlay):
    [container] = the("Deployment", overlay)["spec"]["template"]["spec"]["containers"]
    assert {variable["name"] for variable in container["env"]} <= ENVIRON.keys() | DEFAULTS.keys()


def test_make_pin_changes_the_digest_of_one_overlay_and_nothing_else(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    digest = f"sha256:{'1a' * 32}"
    pin = ["make", "--directory", tmp_path, "pin", "OVERLAY=staging"]
    refused = subprocess.run([*pin, "DIGEST=latest"], capture_output=True, text=True)
    assert refused.returncode == 2 and "DIGEST: expected sha256: and 64 hex digits" in refused.stdout
    subprocess.run([*pin, f"DIGEST={digest}"], check=True, capture_output=True)
    before = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "k8s").rglob("*") if path.is_file()}
    after = {path.relative_to(tmp_path): path.read_text() for path in (tmp_path / "k8s").rglob("*") if path.is_file()}
    staging = Path("k8s/overlays/staging/kustomization.yaml")
    expected, changes = DIGEST.subn(digest, before[staging])
    assert changes == 1
    assert after == before | {staging: expected}


def test_argo_cd_may_sync_what_is_rendered_and_nothing_else():
    [project] = [one["spec"] for one in ARGO if one["kind"] == "AppProject"]
    applications = {one["metadata"]["name"]: one["spec"] for one in ARGO if one["kind"] == "Application"}
    assert applications.keys() == {f"ml-model-{overlay}" for overlay in OVERLAYS}
    assert {one["metadata"]["namespace"] for one in ARGO} == {"argocd"}
    for name, spec in applications.items():
        assert spec["project"] == "ml-model"
        assert spec["source"]["path"] == f"k8s/overlays/{spec['destination']['namespace'].removeprefix('ml-model-')}"
        assert spec["source"]["repoURL"] in project["sourceRepos"]
        assert spec["destination"] in project["destinations"]
        assert spec["destination"]["namespace"] == name
    rendered = {
        (one["apiVersion"].rpartition("/")[0], one["kind"]) for overlay in OVERLAYS for one in RENDERED[overlay]
    }
    assert {(one["group"], one["kind"]) for one in project["namespaceResourceWhitelist"]} == rendered
    assert project["clusterResourceWhitelist"] == [{"group": "", "kind": "Namespace", "name": "ml-model-*"}]


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
            assert writes == {("release.yml", "image"): {"packages"}, ("release.yml", "pin"): {"contents"}}.get(
                (file, name), set()
            )
    for where, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where
        assert "${{" not in step.get("run", ""), where  # text from outside must not become a command
    assert "secrets." not in (ROOT / ".github/workflows/ci.yml").read_text()


def test_ci_runs_what_a_person_runs():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    ran = [
        words[1]
        for _, step in STEPS
        for words in map(shlex.split, step.get("run", "").splitlines())
        if words[0] == "make"
    ]
    assert {"lint", "test", "image-test", "pin"} == set(ran) <= targets


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
        step["with"]["python-version"] for _, step in STEPS if "python-version" in step.get("with", {})
    } - {"${{ matrix.python }}"}
    assert shipped in versions


def test_the_base_image_is_named_by_tag_and_digest_and_used_twice():
    base, build, shipped = instructions("FROM")
    assert re.fullmatch(rf"docker\.io/library/python:3\.\d+-slim-trixie@{DIGEST.pattern} AS python", base)
    assert (build, shipped) == ("python AS build", "python")  # one line for whoever updates it


def test_the_image_starts_without_a_shell_and_as_in_the_makefile():
    assert instructions("CMD")[-1] == '["gunicorn", "app:app"]'
    assert "\texec $(BIN)/gunicorn app:app\n" in (ROOT / "Makefile").read_text()


def test_only_what_is_named_reaches_the_image():
    ignored, *allowed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == "*"
    copied = [name for copy in instructions("COPY") if "--from" not in copy for name in copy.split()[:-1]]
    assert {line.removeprefix("!").removesuffix("/*.py") for line in allowed} == set(copied)
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
    serving, development = pins("requirements.txt"), pins("requirements-dev.txt")
    declared = PROJECT["project"]["dependencies"]
    assert {re.match("[a-z-]+", line)[0] for line in declared} <= serving.keys()
    assert set(PROJECT["dependency-groups"]["dev"]) <= development.keys()
    assert serving.items() <= development.items()
    for file in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / file).read_text()
        assert "://" not in text and "--index-url" not in text and "make lock" in text


def test_the_image_carries_no_tool():
    serving = pins("requirements.txt").keys()
    assert not serving & set(PROJECT["dependency-groups"]["dev"])
    assert not serving & {"pandas", "mlflow", "pip", "setuptools"}
    assert len(serving) <= 16
