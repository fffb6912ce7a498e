"""nginx and HAProxy in front of the service, each with the settings that many have.

`make test-proxies` runs these tests; it needs both proxies.
"""

import contextlib
import subprocess

import pytest

from helpers import free_port, over_http, wait_until

NGINX = """daemon off;
pid nginx.pid;
error_log stderr crit;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_max_body_size 4m;
    client_body_buffer_size 4m;  # files would belong to another user
    proxy_max_temp_file_size 0;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream service {{
        server {address};
        {pool}
    }}
    server {{
        listen 127.0.0.1:{port} sndbuf=16k;
        location / {{
            proxy_pass http://service;
            {options}
        }}
    }}
}}
"""

NGINX_SETTINGS = {
    # Without settings nginx speaks HTTP/1.0, and each request has a connection of its own.
    "nginx": ("", ""),
    "nginx, keepalive": (
        "keepalive 16;",
        'proxy_http_version 1.1; proxy_set_header Connection "";',
    ),
    "nginx, unbuffered": ("", "proxy_buffering off; proxy_request_buffering off;"),
}

HAPROXY = """global
    maxconn 1000
    # So that a client that reads slowly makes the service wait, and not the kernel's buffers.
    tune.rcvbuf.server 16384
    tune.sndbuf.client 16384
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server one {address}
"""

PROXIES = [*NGINX_SETTINGS, "haproxy"]


def proxy_command(name, directory, address, port):
    """Return the command of a proxy that listens on `port` and forwards to `address`."""
    if name == "haproxy":
        path = directory / "haproxy.cfg"
        path.write_text(HAPROXY.format(address=address, port=port))
        return ["haproxy", "-db", "-q", "-f", path]

    pool, options = NGINX_SETTINGS[name]
    path = directory / "nginx.conf"
    path.write_text(NGINX.format(address=address, port=port, pool=pool, options=options))
    return ["nginx", "-p", directory, "-c", path, "-e", "stderr"]


@contextlib.contextmanager
def run_proxy(name, directory, address):
    """Yield the address of a proxy that forwards to `address`."""
    port = free_port()
    process = subprocess.Popen(proxy_command(name, directory, address, port))
    try:
        wait_until(lambda: over_http(f"127.0.0.1:{port}", "GET", "/healthz").status == 200)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def start_proxy(tmp_path):
    """Return a function that starts a proxy by its name."""
    with contextlib.ExitStack() as proxies:

        def start(name, address):
            return proxies.enter_context(run_proxy(name, tmp_path, address))

        yield start
