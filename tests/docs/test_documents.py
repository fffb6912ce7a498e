"""All documents: commands, tasks, paths and links are real."""

import re
import shlex

import pytest

from documentation import DOCUMENTS, FENCE, commands, curls, exchanges_in, quoted, section
from helpers import ROOT
from manifests import MAKEFILE

MEDIA_TYPES = ("application/", "text/")
LINK = re.compile(r"\]\(([^)\s]+)\)")

# Their commands run from top to bottom in tests/batch and tests/registry.
WALKTHROUGHS = ("batch.md", "registry.md")


def read_option(words, option):
    """Return the values that follow an option of a command."""
    return [words[i + 1] for i, word in enumerate(words) if word == option]


def list_headings(text):
    """Return the headings below the title."""
    return re.findall(r"^##+ (.+)$", FENCE.sub("", text), re.MULTILINE)


def heading_anchor(heading):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(("command", "printed"), curls())
def test_curl_prints_documented_output(call, command, printed):
    """Each curl command gets the response that the document shows."""
    words = shlex.split(command)
    [method] = read_option(words, "-X")
    [url] = [word for word in words if word.startswith("http://localhost:5000")]
    body = "".join(read_option(words, "-d")).encode()
    headers = dict(header.split(": ") for header in read_option(words, "-H"))
    assert (method == "POST") == bool(body)

    response = call(method, url.removeprefix("http://localhost:5000"), body or None, headers)
    if printed:
        assert response.body.decode() == printed
    else:
        assert method == "GET"
        assert response.status == 200


def test_every_command_is_tested():
    """Every command of the documents is run, or compared, by a test that is named here."""
    # The version whose definitions `make test-crds` validates the manifests by.
    version = re.search(r"argoproj/argo-cd:(v[0-9.]+):", MAKEFILE)[1]
    install = f"https://raw.githubusercontent.com/argoproj/argo-cd/{version}/manifests/install.yaml"
    tested = [
        "make run",  # bench/first_answer.sh, which .ci/run calls
        "docker build --tag flask-ml-model .",  # tests/docs/test_readme.py
        "docker run --publish 5000:5000 flask-ml-model",  # tests/deployment/test_image.py
        "make lint",  # .ci/run
        "make test",  # .ci/run
        # tests/deployment/test_adoption.py
        "make adopt REPO=https://github.com/you/it IMAGE=ghcr.io/you/it",
        "kubectl create namespace argocd",
        f"kubectl apply --namespace argocd --server-side --filename {install}",
        # tests/deployment/test_argo.py
        "kubectl apply --namespace argocd --filename k8s/argocd/project.yaml "
        "--filename k8s/argocd/staging.yaml",
        "kubectl apply --namespace argocd --filename k8s/argocd/production.yaml",
    ]
    # tests/deployment/test_local_cluster.py
    local_cluster = exchanges_in(section("deployment.md", "Local cluster"))
    tested += [command for command, _ in local_cluster if not command.startswith("curl ")]
    tested += [
        # tests/deployment/test_device.py
        "docker run --detach --restart unless-stopped --publish 5000:5000 "
        "--env WEB_CONCURRENCY=1 --memory 256m flask-ml-model",
        # tests/deployment/test_image.py
        "docker build --target edge --tag flask-ml-model-edge .",
        "docker run --detach --restart unless-stopped --publish 5000:5000 "
        "--env WEB_CONCURRENCY=1 --memory 256m flask-ml-model-edge",
        # tests/docs/test_example_commands.py
        "make install",
        "PYTHONPATH=. .venv/bin/python examples/penguins/train.py",
        "MODEL_PATH=examples/penguins/model.pkl make run",
    ]
    found = [
        command
        for name in DOCUMENTS
        for command in commands(name)
        if name not in WALKTHROUGHS and not command.startswith("curl ")
    ]
    assert found == tested
    # Other blocks are files, code or messages, each of which a test reads.
    languages = {language for text in DOCUMENTS.values() for language, _ in FENCE.findall(text)}
    assert languages == {"console", "diff", "ini", "python", "text"}


def test_named_tasks_exist():
    """Every make task that a document names exists."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    names = set()
    for text in DOCUMENTS.values():
        names |= set(re.findall(r"[`$] ?make ([a-z-]+)", text))
    assert {"run", "test", "train", "pin"} <= names <= targets


def test_named_paths_exist():
    """Every path that a document names exists."""
    names = set()
    for text in DOCUMENTS.values():
        words = quoted(FENCE.sub("", text))
        names |= {word for word in words if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", word)}

    assert names >= {"serving/model/unpickling.py", "bench/first_answer.sh", "../../components/ab"}
    folders = (ROOT, ROOT / "k8s/overlays/production")
    paths = [name for name in names if not name.startswith(MEDIA_TYPES)]
    assert [name for name in paths if not any((at / name).exists() for at in folders)] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    """Every relative link leads to a file, and every anchor to a heading."""
    folder = ROOT if (ROOT / name).exists() else ROOT / "docs"
    links = [link for link in LINK.findall(DOCUMENTS[name]) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = folder / (path or name)
        assert target.exists(), link
        if anchor:
            anchors = [heading_anchor(heading) for heading in list_headings(target.read_text())]
            assert anchor in anchors, link


@pytest.mark.parametrize("name", sorted(DOCUMENTS.keys() - {"CONTRIBUTING.md", "glossary.md"}))
def test_contents_list_every_section(name):
    """The contents of a document list its sections, in order."""
    text = DOCUMENTS[name]
    sections = [heading_anchor(title) for title in re.findall(r"^## (.+)$", text, re.MULTILINE)]
    listed = re.findall(r"\]\(#([\w-]+)\)", text)
    if name == "README.md":
        sections.remove("quick-start")
    assert listed == sections
