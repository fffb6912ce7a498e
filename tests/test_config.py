"""Settings: read from the environment, checked, and refused in one line."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from app import create_app
from helpers import ROOT, environment
from serving.config import ConfigurationError, Settings


def test_settings_read_environment():
    """Each variable is converted; empty and unknown variables are ignored."""
    environ = {"MAX_ROWS": "5", "MODEL_SHA256": "", "API_KEYS": "a, b,,", "OTHER": "1"}

    settings = Settings.from_env(environ)

    assert settings.max_rows == 5
    assert settings.model_sha256 == ""
    assert settings.api_keys == ("a", "b")
    assert settings.max_body_bytes == Settings().max_body_bytes


def test_overrides_replace_environment():
    """An argument of create_app goes before the variable of its name."""
    assert Settings.from_env({"MAX_ROWS": "5"}, MAX_ROWS=7).max_rows == 7


def test_unknown_override_is_refused():
    """A misspelt setting is an error and not ignored."""
    with pytest.raises(ConfigurationError, match="unknown setting MAX_ROW"):
        create_app(MAX_ROW=1)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", "1e3", "\u0663", "9" * 19])
def test_limit_is_positive_whole_number(text):
    """A limit is a whole number above 0, in ASCII digits."""
    message = "MAX_ROWS: expected a whole number above 0, got "
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_env({"MAX_ROWS": text})


@pytest.mark.parametrize("text", ["0" * 63, "0" * 65, "x" * 64])
def test_digest_has_64_digits(text):
    """A truncated digest is refused as a setting and not as a mismatch of the model."""
    message = "MODEL_SHA256: expected 64 hexadecimal digits, got "
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_env({"MODEL_SHA256": text})


def test_api_keys_need_a_key():
    """A list of separators is refused; otherwise the service would be open."""
    with pytest.raises(ConfigurationError, match="API_KEYS is set but contains no key"):
        Settings.from_env({"API_KEYS": " , "})


@pytest.mark.parametrize(
    "text", ["shop.example", "https://shop.example/", "https://*.example", "*,https://a", ","]
)
def test_cors_origins_are_origins(text):
    """What a browser never sends as Origin, or a library takes for a pattern, is refused."""
    with pytest.raises(ConfigurationError, match="CORS_ORIGINS: expected origins"):
        Settings.from_env({"CORS_ORIGINS": text})


@pytest.mark.parametrize("name", ["PORT", "AIP_HTTP_PORT"])
def test_metrics_port_is_its_own(name):
    """The port of the metrics cannot be the port of the predictions."""
    with pytest.raises(ConfigurationError, match=f"METRICS_PORT: 9000 is {name} already"):
        Settings.from_env({name: "9000", "METRICS_PORT": "9000"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "http", "PORT: expected a whole number from 0 to 65535, got 'http'"),
        ("MODEL_PATH", "nowhere.pkl", "nowhere.pkl: No such file or directory; "),
    ],
)
def test_development_server_refuses_in_one_line(name, value, message):
    """`python app.py` ends with status 1 and one line, not with a traceback."""
    process = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment(**{name: value}),
        capture_output=True,
        text=True,
    )

    assert process.returncode == 1
    [line] = process.stderr.splitlines()
    assert line.startswith(message)


def test_import_app_cannot_fail():
    """Importing app neither loads the model nor ends the interpreter; using `app.app` raises."""
    program = (
        "import app\n"
        "try:\n"
        "    app.app\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(MAX_ROWS="many"),
        capture_output=True,
        text=True,
    )

    assert (process.returncode, process.stdout) == (0, "ConfigurationError\n"), process.stderr


def test_help_of_the_service_lists_settings():
    """`python app.py --help` lists the settings, and another option is refused in one line."""
    command = [sys.executable, "app.py", "--help"]
    shown = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    listed = re.findall(r"^  ([A-Z0-9_]+): \S", shown.stdout, re.MULTILINE)
    assert listed == [setting.name.upper() for setting in fields(Settings)]

    command = [sys.executable, "app.py", "--port", "8000"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr.endswith("app.py: error: unrecognized arguments: --port 8000\n")
