"""A server between a client and a store that answers as bad networks and busy stores do.

Faults are given out by rules: the first rule that fits a request and is not used up decides what happens to it. Others
go through unchanged.

Examples
--------
>>> proxy.add(Fault.not_found, times=7, method="GET", path="in.zarr/c/0/0")
>>> proxy.add(Fault.cut_short, rate=0.1, seed=3)
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Fault(Enum):
    """What can go wrong with a request."""

    internal = 500
    unavailable = 503
    not_found = 404
    denied = 403
    unsupported = 501
    reset = "the connection breaks before the answer"
    reset_after = "the store carries it out, but the connection breaks before the answer"
    cut_short = "the answer ends in the middle"
    slow = "the answer comes late"


CODES = {
    Fault.internal: "InternalError",
    Fault.unavailable: "SlowDown",
    Fault.not_found: "NoSuchKey",
    Fault.denied: "AccessDenied",
    Fault.unsupported: "NotImplemented",
}

SLOW_SECONDS = 1.5


@dataclass
class Rule:
    """Which requests fail, how, and how often.

    Attributes
    ----------
    fault : Fault
    times : int or None
        Requests that fail; None for all.
    method, path : str
        Regular expressions that must be found in the method, and in the path with its query.
    rate : float
        Share of the fitting requests that fail, by the rule's own random numbers.
    seed : int
    """

    fault: Fault
    times: int | None = None
    method: str = ""
    path: str = ""
    rate: float = 1.0
    seed: int = 0
    used: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def fits(self, method: str, path: str) -> bool:
        """Return whether a request fails by this rule."""
        return (
            (self.times is None or self.used < self.times)
            and re.search(self.method, method) is not None
            and re.search(self.path, path) is not None
            and self.random.random() < self.rate
        )


class FaultyProxy:
    """A proxy in front of one store.

    Parameters
    ----------
    store : str
        Address of the store, "http://127.0.0.1:5000".

    Attributes
    ----------
    address : str
        Where clients find the proxy.
    requests : list of (method, path)
        All that were asked, in order.
    """

    def __init__(self, store: str) -> None:
        self.store = urlsplit(store).netloc
        self.rules: list[Rule] = []
        self.requests: list[tuple[str, str]] = []
        self.lock, self.conditional = threading.Lock(), threading.Lock()
        self.server = _Server(("127.0.0.1", 0), self)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, fault: Fault, **rule: object) -> Rule:
        """Let requests fail from now on; returns the rule, whose `used` counts those that did."""
        made = Rule(fault, **rule)  # type: ignore[arg-type]
        with self.lock:
            self.rules.append(made)
        return made

    def clear(self) -> None:
        """Let all requests through again."""
        with self.lock:
            self.rules.clear()
            self.requests.clear()

    def chosen(self, method: str, path: str) -> Fault | None:
        """Return what happens to a request."""
        with self.lock:
            self.requests.append((method, path))
            for rule in self.rules:
                if rule.fits(method, path):
                    rule.used += 1
                    return rule.fault
        return None

    @contextmanager
    def serving(self) -> Iterator[FaultyProxy]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, at: tuple[str, int], proxy: FaultyProxy) -> None:
        super().__init__(at, _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that are killed break their connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        body = self._body()
        if len(body) < int(self.headers.get("Content-Length", 0)):
            self.close_connection = True  # the client was killed: no store takes half an object
            return
        fault = self.server.proxy.chosen(self.command, self.path)
        if fault in CODES:
            self._refuse(fault)
        elif fault is Fault.reset:
            self._break()
        else:
            if fault is Fault.slow:
                time.sleep(SLOW_SECONDS)
            self._pass_on(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def _body(self) -> bytes:
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _refuse(self, fault: Fault) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{CODES[fault]}</Code><Message>in passing</Message></Error>"
        self.send_response(fault.value)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def _break(self) -> None:
        self.close_connection = True
        # With a linger of 0 the client sees a reset, not an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
        headers["Content-Length"] = str(len(body))
        store = http.client.HTTPConnection(self.server.proxy.store, timeout=60)
        # A store looks and writes in one step; the server of the tests does so in two.
        conditional = {"if-match", "if-none-match"} & {name.lower() for name in headers}
        try:
            with self.server.proxy.conditional if conditional else contextlib.nullcontext():
                store.request(self.command, self.path, body, headers)
                answer = store.getresponse()
                found = answer.read()
        finally:
            store.close()
        if fault is Fault.reset_after:
            self._break()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(found))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is Fault.cut_short:
            self.wfile.write(found[: len(found) // 2])
            self._break()
            return
        self.wfile.write(found)
