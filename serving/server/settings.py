"""gunicorn's settings: this worker honours one, or refuses it at start, but ignores none."""

import sys
from typing import Any

from gunicorn.config import Config

# With the reason. A setting that gunicorn of another version does not have is skipped.
REFUSED = {
    "certfile": "it serves plain HTTP; let a proxy end TLS",
    "keyfile": "it serves plain HTTP; let a proxy end TLS",
    "ca_certs": "it serves plain HTTP; let a proxy end TLS",
    "ciphers": "it serves plain HTTP; let a proxy end TLS",
    "protocol": "it reads HTTP only",
    "http_protocols": "it reads HTTP/1.1 and HTTP/1.0 only",
    "proxy_protocol": "it reads no PROXY header",
    "forwarded_allow_ips": "it trusts no forwarded header; wrap the application in ProxyFix",
    "secure_scheme_headers": "it trusts no forwarded header; wrap the application in ProxyFix",
    "forwarder_headers": "it trusts no forwarded header; wrap the application in ProxyFix",
    "header_map": "it drops a header with an underscore",
    "permit_unconventional_http_method": "it reads the methods of HTTP only",
    "permit_unconventional_http_version": "it reads HTTP/1.1 and HTTP/1.0 only",
    "permit_obsolete_folding": "it reads no folded header",
    "strip_header_spaces": "it reads no space before a colon",
    "casefold_http_method": "a method is in upper case",
    "tolerate_dangerous_framing": "it reads strict framing only",
    "pre_request": "it calls no hook for a request",
    "post_request": "it calls no hook for a request",
    "sendfile": "it sends a file as any other body",
}


def check_settings(config: Any) -> None:
    """End the process with one line if a setting asks for what this worker does not do."""
    defaults = Config()
    for name, reason in REFUSED.items():
        setting = config.settings.get(name)
        if setting is not None and setting.get() != defaults.settings[name].get():
            sys.exit(f'{name}: not by this worker: {reason}; or set worker_class = "gthread"')
