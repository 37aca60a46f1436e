"""A real HTTP server on loopback that behaves as badly as it is told to, one request after the other."""

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass
class Turn:
    """How one request is answered. cut: stop after so many bytes of body and close. claims: a false Content-Length."""

    status: int = 200
    cut: int | None = None
    claims: int | None = None
    ignores_range: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    hold: threading.Event | None = None


class Publisher:
    """Serves `body` under any path; `turns` are used up one a request, then it behaves well."""

    def __init__(self, body: bytes, etag: str | None = '"v1"') -> None:
        self.body, self.etag = body, etag
        self.turns: list[Turn] = []
        self.always: Turn | None = None
        self.requests: list[dict[str, str]] = []
        self.methods: list[str] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                publisher.answer(self)

            def do_HEAD(self) -> None:
                publisher.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that hangs up is part of the game."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/archive"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [request.get("Range") for request in self.requests]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(request.headers))
        self.methods.append(request.command)
        turn = self.turns.pop(0) if self.turns else self.always or Turn()
        if turn.hold:
            turn.hold.wait(10)
        body, etag = self.body, self.etag
        status, headers = turn.status, {"Content-Type": "application/octet-stream"}
        if etag:
            headers["ETag"] = etag
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if status != 200:
            body = b"no"
        elif asked and not turn.ignores_range and request.headers.get("If-Range") in (None, etag):
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status = 206
            if start >= len(body):
                status, headers["Content-Range"] = 416, f"bytes */{len(body)}"
            body = body[start:]
        if turn.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) if turn.claims is None else turn.claims)
        request.send_response(status)
        for name, value in (headers | turn.headers).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if turn.chunked:
            request.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        else:
            request.wfile.write(body if turn.cut is None else body[: turn.cut])
        request.close_connection = turn.cut is not None or turn.claims is not None
