"""A web server on loopback that serves one file, well or badly."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does.

    Attributes:
        data: the file.
        ranges: serve byte ranges.
        cut_after: bytes of a body after which the connection is closed; shorter bodies are sent whole.
        cuts: how many of the answers are cut.
        reset: close the connection the hard way.
        headers: sent in place of the right ones; None leaves a header out. Texts may hold ``{start}``,
            ``{stop}`` (the byte behind the range), and ``{size}``.
        status: answer this instead.
        location: redirect to this.
        stall: seconds before answering.
        etags: entity tags of the answers, one after the other.
        chunked: send whole files in chunks, without their length.
        most: bytes of the largest range that is served.
    """

    data: bytes
    ranges: bool = True
    cut_after: int | None = None
    cuts: int = 1_000_000
    reset: bool = False
    headers: dict[str, str | None] = field(default_factory=dict)
    status: int | None = None
    location: str | None = None
    stall: float = 0.0
    etags: list[str] = field(default_factory=list)
    chunked: bool = False
    most: int | None = None


@dataclass
class Served:
    """A running server.

    Attributes:
        url: of the file.
        asked: the ranges that were asked for, start and end (exclusive), in order.
        sent: bytes of bodies that were sent.
    """

    url: str
    behaviour: Behaviour
    asked: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        served = self.served
        behaviour = served.behaviour
        data = behaviour.data
        time.sleep(behaviour.stall)
        if behaviour.location and self.path != "/moved":
            self._head(302, {"Location": behaviour.location, "Content-Length": "0"})
            return
        if behaviour.status:
            self._head(behaviour.status, {"Content-Length": "0"})
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        assert match, "every request asks for a range"
        start, stop = int(match[1]), int(match[2]) + 1
        served.asked.append((start, stop))
        if not behaviour.ranges:
            length = {"Transfer-Encoding": "chunked"} if behaviour.chunked else {}
            self._head(200, length or {"Content-Length": str(len(data))})
            self._body(data)
            return
        if start >= len(data):
            self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            return
        stop = min(stop, len(data), start + (behaviour.most or len(data)))
        headers = {
            "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}",
            "Content-Length": str(stop - start),
        }
        for name, text in behaviour.headers.items():
            headers.pop(name, None)
            if text is not None:
                headers[name] = text.format(start=start, stop=stop, size=len(data))
        self._head(206, headers)
        self._body(data[start:stop])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        if self.served.behaviour.etags:
            self.send_header("ETag", self.served.behaviour.etags.pop(0))
        self.end_headers()

    def _body(self, body: bytes) -> None:
        behaviour = self.served.behaviour
        end = len(body) if behaviour.cut_after is None else behaviour.cut_after
        cut = end < len(body) and behaviour.cuts > 0
        if cut:
            behaviour.cuts -= 1
            body = body[:end]
        try:
            # In small pieces, so that a reader who has enough can stop the sending.
            for at in range(0, len(body), 4096):
                piece = body[at : at + 4096]
                if behaviour.chunked:
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                else:
                    self.wfile.write(piece)
                self.served.sent += len(piece)
            if behaviour.chunked and not cut:
                self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except OSError:
            cut = True
        if cut:
            self.close_connection = True
            if behaviour.reset:
                # Lets the bytes go out first: a reset overtakes what is still to be sent.
                time.sleep(0.05)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are no error."""


@contextmanager
def serve(data: bytes, **behaviour: object) -> Iterator[Served]:
    """A server of ``data`` at ``url``, with the attributes of ``Behaviour``."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    served = Served(
        f"http://127.0.0.1:{server.server_port}/cloud.pcc",
        Behaviour(data, **behaviour),  # type: ignore[arg-type]
    )
    handler.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
