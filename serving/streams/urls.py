"""Addresses of streams: what they name, what they set, and a text without their password."""

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from serving.batch.stats import BatchError

REDIS_SCHEMES = ("redis", "rediss")
KAFKA_SCHEMES = ("kafka", "kafka+ssl")

FORMS = {
    "redis": "redis://HOST:PORT/DB?stream=NAME",
    "kafka": "kafka://HOST:PORT,HOST:PORT/TOPIC",
}
# A password with a slash, or with another character that ends this part of an address, is no part
# of what follows: nothing else is quoted from an address that has not one of the forms.
HOSTS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
DATABASE = re.compile(r"/?|/[0-9]+")
TOPIC = re.compile(r"/[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class StreamUrl:
    """A stream of a broker, and the options in its address."""

    scheme: str
    username: str
    password: str = field(repr=False)
    hosts: str
    path: str
    name: str  # of the stream or topic
    options: dict[str, str] = field(repr=False)

    @property
    def kind(self) -> str:
        """Return the kind of the broker."""
        return self.scheme.partition("+")[0].replace("rediss", "redis")

    def __str__(self) -> str:
        """Return the address without its user, password and options."""
        address = f"{self.scheme}://{self.hosts}{self.path}"
        if self.kind == "redis":
            address += f"?stream={quote(self.name, safe='{}:')}"
        return address


def is_stream_url(text: str) -> bool:
    """Return whether a word of the command line names a stream of a broker."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.lower() in REDIS_SCHEMES + KAFKA_SCHEMES


def parse_stream_url(text: str) -> StreamUrl:
    """Return what an address names. Raises BatchError, without the password."""
    scheme = text.partition("://")[0].lower()
    kind = scheme.partition("+")[0].replace("rediss", "redis")
    form = f"expected an address such as {FORMS[kind]}"
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BatchError(form) from None

    credentials, _, hosts = parts.netloc.rpartition("@")
    is_redis = kind == "redis"
    path_pattern = DATABASE if is_redis else TOPIC
    has_form = all(HOSTS.fullmatch(host) for host in hosts.split(","))
    if is_redis and "," in hosts:
        has_form = False
    if not has_form or not path_pattern.fullmatch(parts.path) or parts.fragment:
        raise BatchError(f"{form}; special characters of a password are percent-encoded, as %2F")

    username, _, password = credentials.partition(":")
    options = read_options(parts)
    name = parts.path.removeprefix("/")
    if is_redis:
        name = options.pop("stream", "")
        if not name:
            raise BatchError(form)
    return StreamUrl(scheme, unquote(username), unquote(password), hosts, parts.path, name, options)


def read_options(parts: SplitResult) -> dict[str, str]:
    """Return the query of an address. Raises BatchError for an option that occurs twice."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            raise BatchError(f"the option {name!r} of the address occurs twice")
        options[name] = value
    return options


def take_number(options: dict[str, str], name: str, default: int) -> int:
    """Remove an option and return its whole number, from 1. Raises BatchError."""
    text = options.pop(name, "") or str(default)
    if not re.fullmatch("[0-9]{1,12}", text) or (int(text) == 0 and default):
        raise BatchError(f"the option {name!r} of the address: expected a number, got {text!r}")
    return int(text)
