"""Settings: the one place where the service's environment variables are read and checked."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from serving.model.directories import find_platform_model
from serving.model.errors import ModelError

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


class ConfigurationError(ValueError):
    """An invalid setting; the message is one line that names the environment variable."""


def _whole_number(minimum: int, maximum: int) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        if not re.fullmatch("0|[1-9][0-9]{0,8}", text) or not minimum <= int(text) <= maximum:
            expected = f"a whole number from {minimum} to {maximum}"
            raise ConfigurationError(f"{name}: expected {expected}, got {text!r}")
        return int(text)

    return parse


def _limit(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise ConfigurationError(f"{name}: expected a whole number above 0, got {text!r}")
    return int(text)


def _path(_: str, text: str) -> Path:
    return Path(text)


def _digest(name: str, text: str) -> str:
    if not re.fullmatch("[0-9A-Fa-f]{64}", text):
        raise ConfigurationError(f"{name}: expected 64 hexadecimal digits, got {text!r}")
    return text.lower()


def _log_level(name: str, text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ConfigurationError(f"{name}: expected {_one_of(LOG_LEVELS)}, got {text!r}")
    return text.lower()


def _one_of(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _api_keys(name: str, text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        raise ConfigurationError(f"{name} is set but contains no key")
    return keys


def _origins(name: str, text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.:-]+", origin):
            expected = "origins such as https://example.com, separated by commas, or *"
            raise ConfigurationError(f"{name}: expected {expected}, got {origin!r}")
    if not origins or ("*" in origins and len(origins) > 1):
        raise ConfigurationError(f"{name}: expected origins or *, got {text!r}")
    return origins


def _on_or_off(name: str, text: str) -> str:
    if text.lower() not in ("on", "off"):
        raise ConfigurationError(f"{name}: expected on or off, got {text!r}")
    return text.lower()


def _route(name: str, text: str) -> str:
    if not re.fullmatch("/[A-Za-z0-9/._:~-]*", text):
        raise ConfigurationError(f"{name}: expected a path, got {text!r}")
    return text


def _default_model_path() -> Path:
    return Path(__file__).parents[1] / "model.pkl"


def _platform_model_path(environ: Mapping[str, str]) -> dict[str, Path]:
    """Return the model path that a platform gives, if any, under its name."""
    try:
        path = find_platform_model(environ)
    except ModelError as error:
        raise ConfigurationError(str(error)) from error
    return {"model_path": path} if path else {}


_port = _whole_number(1, 65535)


def _setting(parse: Callable[[str, str], Any], description: str) -> dict[str, Any]:
    return {"parse": parse, "description": description}


@dataclass(frozen=True)
class Settings:
    """The settings, one environment variable each, which has the field's name in upper case."""

    port: int = field(
        default=5000,
        metadata=_setting(_whole_number(0, 65535), "Port, on all interfaces"),
    )
    web_concurrency: int | None = field(
        default=None,
        metadata=_setting(
            _whole_number(1, 1000),
            "Number of workers; default: one for each core the container may use, at most 2",
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_setting(
            _log_level, "debug, info (one line for each request), warning, error or critical"
        ),
    )
    model_path: Path = field(
        default_factory=_default_model_path,
        metadata=_setting(
            _path,
            "Pickle or `.plan`; its card is beside it, with `.json`. "
            "A platform's `model.pkl` or `model.joblib` replaces the default",
        ),
    )
    model_sha256: str = field(
        default="",
        metadata=_setting(_digest, "Only load a model file with this SHA-256 digest"),
    )
    prediction_plan: str = field(
        default="on",
        metadata=_setting(
            _on_or_off,
            "on: numpy computes the predictions where it can; or off",
        ),
    )
    max_rows: int = field(
        default=10_000, metadata=_setting(_limit, "Maximum number of rows in a request")
    )
    max_body_bytes: int = field(
        default=1_048_576, metadata=_setting(_limit, "Maximum size of a request body in bytes")
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        metadata=_setting(
            _api_keys,
            "Accepted keys, separated by commas; a client sends `Authorization: Bearer KEY`",
        ),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_setting(
            _origins,
            "Origins of web pages that may call the service, separated by commas, or `*`",
        ),
    )
    metrics_port: int | None = field(
        default=None,
        metadata=_setting(
            _port,
            "Separate port for `/metrics` and `/drift`; they need no key there and "
            "are removed from `PORT`",
        ),
    )
    aip_http_port: int | None = field(
        default=None,
        metadata=_setting(
            _port, "Vertex AI: public port; `PORT` is then open to the local machine only"
        ),
    )
    aip_health_route: str | None = field(
        default=None,
        metadata=_setting(
            _route,
            "Vertex AI: path for health checks, before our own",
        ),
    )
    aip_predict_route: str | None = field(
        default=None,
        metadata=_setting(
            _route,
            "Vertex AI: path for predictions, before our own",
        ),
    )
    sagemaker_bind_to_port: int = field(
        default=8080,
        metadata=_setting(_port, "SageMaker: public port when the image is started with `serve`"),
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> "Settings":
        """Return the settings in `environ`; `overrides` replace variables of their names.

        An empty value counts as not set. Raises ConfigurationError.
        """
        settings = {setting.name.upper(): setting for setting in fields(cls)}
        if unknown := overrides.keys() - settings.keys():
            raise ConfigurationError(f"unknown setting {', '.join(sorted(unknown))}")

        values = {}
        for name, setting in settings.items():
            text = str(overrides.get(name, environ.get(name, "")))
            if text:
                values[setting.name] = setting.metadata["parse"](name, text)
        if "model_path" not in values:
            values |= _platform_model_path(environ)
        return cls(**values)

    def __post_init__(self) -> None:
        """Raise ConfigurationError for settings that exclude each other."""
        for name in ("port", "aip_http_port"):
            if self.metrics_port is not None and self.metrics_port == getattr(self, name):
                raise ConfigurationError(
                    f"METRICS_PORT: {self.metrics_port} is {name.upper()} already"
                )


def describe_settings() -> dict[str, str]:
    """Return the description of each setting, by the name of its environment variable."""
    return {setting.name.upper(): setting.metadata["description"] for setting in fields(Settings)}
