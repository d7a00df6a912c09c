"""Servers on the loopback address: of the web, with what servers leave out, and one in between that does harm."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

__all__ = ["Harm", "Proxy", "Web", "proxied", "serving"]


@dataclass(slots=True, kw_only=True)
class Web:
    """What a server of the web does: files by path, how it answers, and what it was asked.

    `on_get` is called with the number of GET requests so far before each is answered.
    """

    files: dict[str, Path] = field(default_factory=dict)
    parts: bool = True
    versions: bool = True
    sizes: bool = True
    head: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    on_get: Any = None
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: int = 0

    @property
    def gets(self) -> int:
        """Count the GET requests."""
        return sum(1 for method, _, _ in self.asked if method == "GET")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would wait 40 ms before the second part of an answer
    web: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        web = self.web
        asked = self.headers.get("Range", "")
        web.asked.append((self.command, self.path, asked))
        if body and web.on_get is not None:
            web.on_get(web.gets)
        path = urlsplit(self.path).path
        if path in web.redirects:
            self._plain(302, {"Location": web.redirects[path]})
        elif not body and not web.head:
            self._plain(405, {})
        elif path == "/denied.h5":
            self._plain(403, {})
        elif path not in web.files:
            self._plain(404, {})
        else:
            self._file(web.files[path], asked if web.parts else "", body=body)

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: Path, asked: str, *, body: bool) -> None:
        status = path.stat()
        begin, end = 0, status.st_size
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        if part is not None:
            begin, end = int(part[1]), min(int(part[2]) + 1, end)
        self.send_response(206 if part is not None else 200)
        if part is not None:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{status.st_size}")
        if self.web.versions:
            self.send_header("ETag", f'"{status.st_mtime_ns}-{status.st_size}"')
            self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
        if self.web.sizes:
            self.send_header("Content-Length", str(end - begin))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not body:
            return
        with path.open("rb") as file, suppress(OSError):
            file.seek(begin)
            while begin < end and (piece := file.read(min(1 << 20, end - begin))):
                self.wfile.write(piece)
                self.web.sent += len(piece)
                begin += len(piece)


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Serve files on a port of the loopback address."""
    with _running(type("Handler", (_Handler,), {"web": web})) as web.url:
        yield web


@contextmanager
def _running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


Harm = Literal["cut", "stall", "500", "wrong", "wrong upload"]


@dataclass(slots=True, kw_only=True)
class Proxy:
    """What a server in between does to requests of a method: harm to `times` of them, after `spared` others.

    ``cut`` ends the connection within the body of the answer, ``stall`` sends half of it and then nothing until the end
    of the test, ``500`` answers in place of the server, ``wrong`` changes a byte of the answer and ``wrong upload`` one
    of the request.
    """

    harm: Harm | None = None
    method: str = "GET"
    times: int = 0
    spared: int = 0
    url: str = ""
    done: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    on_request: Any = None

    def due(self, method: str, size: int) -> Harm | None:
        """Tell what to do to a request with a body, or an answer, of this size."""
        if self.harm is None or method != self.method or self.done >= self.times or size < 16:
            return None
        if self.spared:
            self.spared -= 1
            return None
        self.done += 1
        return self.harm


class _Forwarder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would wait 40 ms before the second part of an answer
    proxy: Proxy
    upstream: str

    def log_message(self, *_: object) -> None:
        pass

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy = self.proxy
        if proxy.on_request is not None:
            proxy.on_request(self.command, self.path)
        uploading = proxy.harm == "wrong upload"
        if uploading and proxy.due(self.command, len(body)):
            body = _changed(body)
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        connection.request(self.command, self.path, body=body, headers=dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        harm = None if uploading else proxy.due(self.command, len(data) if proxy.harm != "500" else 16)
        if harm == "500":
            self._start(500, [("Content-Length", "0")])
            return
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OURS]
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self._start(answer.status, [*headers, ("Content-Length", size or "0")])
        if harm == "wrong":
            data = _changed(data)
        with suppress(OSError):
            if harm in ("cut", "stall"):
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                if harm == "stall":
                    proxy.released.wait()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815 - the names that the class looks for

    def _start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()


_OURS = ("content-length", "transfer-encoding", "connection")


def _changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """Stand between a server and its callers."""
    proxy = Proxy()
    handler = type("Handler", (_Forwarder,), {"proxy": proxy, "upstream": urlsplit(upstream).netloc})
    with _running(handler) as proxy.url:
        try:
            yield proxy
        finally:
            proxy.released.set()
