"""The README, executed: commands, answers, tables and numbers are compared with what they speak of."""

import dataclasses
import math
import re
import shlex
import subprocess
import tomllib

import msgspec
import pytest
import yaml

import peers
import serve
from app import create_app
from documentation import COMMANDS, CURLS, FENCE, README
from helpers import ROOT
from manifests import ALERTS, CONTAINER, GUNICORN, OLDEST_KUBERNETES, POD, WORKFLOWS, the
from serving.config import Settings
from serving.monitoring.drift import MIN_PSI, MIN_ROWS, SIGNIFICANCE_LEVEL
from serving.server.http11 import MAX_BUFFERED_BYTES, MAX_HEADER_BYTES, MAX_HEADER_FIELDS
from serving.server.worker import MAX_INLINE_BODY_BYTES, SLOW_REQUEST_SECONDS, Worker

FLAT = " ".join(README.split())  # however its lines are broken
MAKEFILE = (ROOT / "Makefile").read_text()


def section(title):
    return re.search(rf"\n## {title}\n(.*?)(?=\n## |\Z)", README, re.DOTALL)[1]


def table(title, which=0):
    """Return the rows of a table below `title`, the first unless told, without its head, cell by cell."""
    found = re.findall(r"(?:^\|.*\n)+", section(title), re.MULTILINE)[which]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in found.splitlines()[2:]
    ]


def quoted(text):
    return re.findall("`([^`]+)`", text)


@pytest.mark.parametrize(("command", "printed"), CURLS)
def test_each_curl_is_answered_as_printed(call, command, printed):
    words = shlex.split(command)[1:]
    [method] = [words[i + 1] for i, word in enumerate(words) if word == "-X"]
    [body] = [words[i + 1] for i, word in enumerate(words) if word == "-d"]
    headers = dict(words[i + 1].split(": ") for i, word in enumerate(words) if word == "-H")
    [url] = [word for word in words if word.startswith("http://localhost:5000")]
    answer = call(method, url.removeprefix("http://localhost:5000"), body.encode(), headers)
    assert answer.body.decode() == printed


def test_every_command_is_one_that_is_tried():
    version = re.search(r"argoproj/argo-cd:(v[0-9.]+):", MAKEFILE)[
        1
    ]  # whose definitions the manifests are checked by
    install = f"https://raw.githubusercontent.com/argoproj/argo-cd/{version}/manifests/install.yaml"
    tried = [
        "make run",  # by bench/first_answer.sh, which .ci/run calls
        "docker build --tag flask-ml-model .",
        "docker run --publish 5000:5000 flask-ml-model",
        "make adopt REPO=https://github.com/you/it IMAGE=ghcr.io/you/it",  # by tests/deployment/test_manifests.py
        "kubectl create namespace argocd",
        f"kubectl apply --namespace argocd --server-side --filename {install}",
        "kubectl apply --kustomize k8s/argocd",
    ]
    others = [
        command
        for command in COMMANDS
        if not command.startswith("curl ") and "batch.py" not in command
    ]
    assert others == tried  # tests/batch/test_dask_cluster.py has the batch's
    assert (
        "\nIMAGE ?= flask-ml-model\n" in MAKEFILE
        and "build $(BUILD_ARGS) --tag $(IMAGE) ." in MAKEFILE
    )
    assert (ROOT / "k8s/argocd/kustomization.yaml").exists()


def test_every_task_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"[`$] ?make ([a-z-]+)", README))
    assert {"run", "test", "train", "pin"} <= named <= targets


def test_the_table_of_routes_is_the_url_map():
    rules = create_app().url_map.iter_rules()
    routes = {
        f"{method} {rule.rule}" for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert sorted(
        name for which in (0, 1) for row in table("API", which) for name in quoted(row[0])
    ) == sorted(routes)


def test_the_table_of_settings_is_what_the_program_reads():
    defaults = {"MODEL_PATH": "model.pkl"}
    for setting in dataclasses.fields(Settings):
        default = setting.default
        if setting.name != "model_path":
            defaults[setting.name.upper()] = "" if default in (None, ()) else default
    rows = {
        name: "".join(quoted(default))
        for names, default, _ in table("Configuration")
        for name in quoted(names)
    }
    assert rows == {name: str(default) for name, default in defaults.items()}


def test_the_map_names_every_file_at_the_top():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {path.partition("/")[0] + "/" * ("/" in path) for path in tracked}
    rows = {name: text for names, text in table("Where things are") for name in quoted(names)}
    assert rows.keys() == top
    modules = [
        path for path in tracked if path.startswith("serving/") and not path.endswith("__init__.py")
    ]
    rooms = {path.removeprefix("serving/") for path in modules}
    assert {name for name in quoted(rows["serving/"]) if name.endswith(".py")} == rooms


def test_the_timeline_is_the_manifests():
    wait = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drained = wait + GUNICORN["graceful_timeout"]
    rows = table("Operate")
    assert [int(second) for second, _ in rows] == [
        0,
        wait,
        drained,
        POD["terminationGracePeriodSeconds"],
    ]
    assert f"`preStop` waits {wait} s" in rows[0][1]
    assert f"`graceful_timeout`, {GUNICORN['graceful_timeout']} s" in rows[2][1]


def test_the_alerts_are_as_the_table_says():
    rows = {quoted(name)[0]: text for name, text in table("Operate", 1)}
    assert rows.keys() == ALERTS.keys()
    for name, alert in ALERTS.items():
        said, wait = rows[name].rsplit(", for ", 1)
        assert wait == alert["for"]
        numbers = set(re.findall(r"(?<![\w.])[0-9.]+(?![\w.])", said)) - {"15"}
        assert all(
            re.search(rf"(?<![\w.]){number}(?![\w.])", alert["expr"]) for number in numbers
        ), name
    assert "[15m]" in ALERTS["MlModelNoTraffic"]["expr"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert f"port {ports['metrics']} to themselves" in README
    assert (
        f"`too few rows` below {MIN_ROWS}, `drifting` above both that value and {MIN_PSI}" in README
        and SIGNIFICANCE_LEVEL == 1 / 20
    )


def test_the_canary_is_judged_as_the_table_says():
    metrics = the("AnalysisTemplate")["spec"]["metrics"]
    for (_, limit, _), metric in zip(table("Ship and roll back"), metrics, strict=True):
        assert metric["successCondition"] == f"len(result) > 0 && result[0] < {limit}"
        assert metric["failureCondition"] == f"len(result) > 0 && result[0] >= {limit}"
        assert (metric["interval"], metric["count"], metric["failureLimit"]) == ("1m", 10, 0)
    weights = [
        step["setWeight"]
        for step in the("Rollout")["spec"]["strategy"]["canary"]["steps"]
        if "setWeight" in step
    ]
    assert weights == [20, 50]  # a fifth, then half


def test_what_is_said_in_passing_is_so():
    versions = WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f"Python ({versions[0]} to {versions[-1]})" in README
    assert f"Kubernetes {OLDEST_KUBERNETES} or newer" in README
    assert (
        f"{GUNICORN['worker_connections']} clients a worker and {MAX_BUFFERED_BYTES // 2**20} MiB"
        in README
    )
    assert f"A request has {GUNICORN['timeout']} s to arrive" in README
    assert f"| The request took more than {GUNICORN['timeout']} s to arrive |" in README
    assert (
        f"More than {MAX_HEADER_BYTES // 1024} KiB or {MAX_HEADER_FIELDS} fields of headers"
        in README
    )
    kib, ms = MAX_INLINE_BODY_BYTES // 1024, SLOW_REQUEST_SECONDS * 1000
    assert f"Bodies above {kib} KiB, and paths that take more than {ms:.0f} ms" in FLAT
    assert f"by {GUNICORN['threads']} threads a worker" in README
    assert (
        GUNICORN["preload_app"]
        and GUNICORN["worker_class"] == f"{Worker.__module__}.Worker"
        and GUNICORN["workers"] == 2
    )
    [variable] = [variable for variable in CONTAINER["env"] if variable["name"] == "API_KEYS"]
    secret = variable["valueFrom"]["secretKeyRef"]
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in README
    policy = yaml.safe_load((ROOT / "k8s/base/networkpolicy.yaml").read_text())
    callers, scrapers = (
        rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in policy["spec"]["ingress"]
    )
    assert f"the namespace `{callers}` to it, and `{scrapers}` to the port of metrics" in FLAT
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (
        "joblib>=1.6" in project["project"]["dependencies"] and "**joblib 1.6 or newer**" in README
    )
    declared = sum(project["dependency-groups"].values(), project["project"]["dependencies"])
    for tool in (
        "msgspec",
        "httptools",
        "python-json-logger",
        "uv",
        "kubernetes-validate",
        "zizmor",
        "check-jsonschema",
        "hadolint",
        "ruff",
        "mypy",
        "hypothesis",
        "jsonschema",
        "flask-swagger-ui",
        "schemathesis",
        "mlflow-skinny",
        "skops",
        "moto",
        "boto3",
        *project["dependency-groups"]["batch"],
    ):
        assert f"**{tool}**" in README or f"**{tool} " in README
        assert any(line.startswith(tool) for line in declared)
    assert "**prometheus_client**" in README and "prometheus-client" in declared


def test_every_path_that_is_named_exists():
    names = {
        name for name in quoted(FENCE.sub("", README)) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", name)
    }
    assert names >= {"serving/model/unpickling.py", "bench/first_answer.sh", "../../components/ab"}
    places = (ROOT, ROOT / "serving", ROOT / "k8s/overlays/production")
    assert [name for name in names if not any((at / name).exists() for at in places)] == [
        "application/json"
    ]


def test_the_accuracies_are_the_cards():
    metrics = msgspec.json.decode((ROOT / "model.json").read_bytes())["metrics"]
    [measured] = [
        measured for what, measured, command in table("Numbers") if command == "`make train`"
    ]
    assert (
        measured
        == f"{metrics['cross_validation']['accuracy']:.2f}; {metrics['held_out']['accuracy']:.1f}"
    )


def test_the_capacity_is_what_the_measured_rates_make_of_it():
    one, hundred = map(
        int, re.search(r"(\d+) with one row a request, (\d+) with 100\)", README).groups()
    )
    target = the("HorizontalPodAutoscaler")["spec"]["metrics"][0]["resource"]["target"][
        "averageUtilization"
    ]
    assert f"the {target} % that the autoscaler" in FLAT
    [workers] = [
        int(variable["value"])
        for variable in CONTAINER["env"]
        if variable["name"] == "WEB_CONCURRENCY"
    ]
    for wanted, *cells in table("Numbers", 3):
        for cell, rate in zip(cells, (one, hundred), strict=True):
            cores = math.ceil(int(wanted.replace(",", "")) / rate / (target / 100))
            assert cell == f"{cores}, {math.ceil(cores / workers)}"
    bounds = the("HorizontalPodAutoscaler")["spec"]
    assert f"bounds are {bounds['minReplicas']} to {bounds['maxReplicas']} pods" in README
    assert f"{CONTAINER['resources']['limits']['memory'].replace('Mi', ' MiB')}" in README


def test_the_tables_beside_others_have_whom_they_are_measured_beside():
    assert [row[0] for row in table("Numbers", 1)] == [
        "this service",
        "this service, Open Inference V2",
        *peers.PEERS,
    ]
    assert [row[0] for row in table("Numbers", 2)] == ["this worker", *serve.SERVERS]
