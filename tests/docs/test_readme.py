"""The README: its tables of endpoints, settings, files and ideas, compared with the code."""

import re
import subprocess

import pytest

from app import create_app
from documentation import DOCUMENTS, exchanges, quoted, table
from helpers import ROOT
from manifests import MAKEFILE, service_settings, workflows

README = DOCUMENTS["README.md"]

IDEAS = (
    "Online prediction",
    "Batch prediction",
    "Streaming",
    "On premises",
    "Cloud",
    "Edge",
    "Monitoring",
    "Logging",
    "CI/CD",
    "A/B test",
    "Canary",
    "Model registry",
    "Drift",
)


MAX_IMAGE_BYTES = 150_000

DATA_SUFFIXES = (".csv", ".parquet")


def test_readme_is_short():
    """The README is about 7 KB and links to every document."""
    assert len(README.encode()) < 8000
    links = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert links == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}


def test_images_are_light():
    """The images of the documents are small, and each is shown by one."""
    shown = set()
    for text in DOCUMENTS.values():
        shown |= set(re.findall(r"!\[[^\]]+\]\((?:docs/)?images/([\w.-]+)\)", text))
    images = list((ROOT / "docs/images").iterdir())
    assert {image.name for image in images} == shown
    assert all(image.stat().st_size < MAX_IMAGE_BYTES for image in images)


def test_readme_curl_prints_prediction():
    """The first curl of the README shows its real output, and the image is built as by make."""
    printed = dict(exchanges("README.md"))
    [curl] = [command for command in printed if command.startswith("curl ")]
    assert printed[curl] == '{"prediction":[0]}\n'

    assert "\nIMAGE ?= flask-ml-model\n" in MAKEFILE
    assert "build $(BUILD_ARGS) --tag $(IMAGE) ." in MAKEFILE


def test_main_endpoints_exist():
    """The README's table has existing routes, and every one that is not a platform's."""
    routes = set()
    for rule in create_app().url_map.iter_rules():
        routes |= {f"{method} {rule.rule}" for method in rule.methods}
    listed = {name for row in table("README.md", "Endpoints") for name in quoted(row[0])}
    assert listed <= routes

    documented = {name for row in table("api.md", "Our own routes") for name in quoted(row[0])}
    assert documented - listed == {"GET /docs/<file>", "GET /page/<file>"}


def test_settings_match_program():
    """The table has every setting, with its default and its description in the program."""
    expected = []
    for name, setting in service_settings().items():
        default = "model.pkl" if name == "MODEL_PATH" else setting.default
        cell = "" if default in ("", (), None) else f"`{default}`"
        expected.append([f"`{name}`", cell, setting.metadata["description"]])

    assert table("README.md", "Configuration") == expected


def list_tracked_files():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in result.stdout.split() if (ROOT / path).exists()]


def test_map_names_every_folder():
    """The map has every file and folder at the top, and every package of serving/."""
    expected = set()
    for path in list_tracked_files():
        first, *rest = path.split("/")
        if first == "data" or first.endswith(DATA_SUFFIXES):
            continue  # the data of an owner's model need no line
        if not rest:
            expected.add(first)
        elif first != "serving":
            expected.add(f"{first}/")
        elif len(rest) > 1:
            expected.add(f"serving/{rest[0]}/")
        elif rest != ["__init__.py"]:
            expected.add(f"serving/{rest[0]}")

    listed = [name for names, _ in table("README.md", "Map") for name in quoted(names)]
    assert sorted(listed) == sorted(expected)


def test_every_module_describes_itself():
    """Every module of serving/ begins with a docstring, which completes the map."""
    modules = [path for path in list_tracked_files() if re.fullmatch(r"serving/.*\.py", path)]
    assert len(modules) > 10
    assert [path for path in modules if not (ROOT / path).read_text().startswith('"""')] == []


def test_every_idea_has_a_place():
    """The table of ideas has every idea of model deployment, each with a command or a path."""
    rows = dict(table("README.md", "Model deployment, idea by idea"))
    assert tuple(rows) == IDEAS
    assert all(re.search(r"`|\]\(docs/", place) for place in rows.values())


def test_supported_pythons_are_tested():
    """The README names the oldest and the newest Python that CI tests."""
    versions = workflows()["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f"Python {versions[0]} to {versions[-1]}" in README
