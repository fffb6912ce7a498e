"""Python's HTTP clients, with bodies of known and of unknown length."""

import asyncio
import json

import aiohttp
import httpx
import pytest
import requests
import urllib3

from clients.examples import CLASSES, ROWS

BODY = json.dumps({"features": ROWS}).encode()
HEADERS = {"Content-Type": "application/json"}


def chunks():
    """Yield the body in parts, which clients send as chunks."""
    for start in range(0, len(BODY), 10):
        yield BODY[start : start + 10]


async def async_chunks():
    for part in chunks():
        yield part


def with_requests(url):
    with requests.Session() as session:
        for body in (BODY, chunks(), BODY):
            yield session.post(url, data=body, headers=HEADERS).json()


def with_urllib3(url):
    with urllib3.PoolManager(1) as pool:
        for body in (BODY, chunks(), BODY):
            yield pool.request("POST", url, body=body, headers=HEADERS).json()
        assert pool.connection_from_url(url).num_connections == 1


def with_httpx(url):
    with httpx.Client() as client:
        for body in (BODY, chunks(), BODY):
            yield client.post(url, content=body, headers=HEADERS).json()


def with_aiohttp(url):
    async def send():
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            answers = []
            for body in (BODY, async_chunks(), BODY):
                async with session.post(url, data=body) as response:
                    answers.append(await response.json())
            return answers

    yield from asyncio.run(send())


@pytest.mark.parametrize("client", [with_requests, with_urllib3, with_httpx, with_aiohttp])
def test_client_receives_predictions(address, client):
    """Each request of a session is answered, whatever the framing of its body."""
    assert [answer["prediction"] for answer in client(f"http://{address}/predict")] == [CLASSES] * 3
