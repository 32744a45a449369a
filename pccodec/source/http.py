"""Byte ranges of files on web servers.

Servers may ignore ranges, break off, or contradict themselves. What arrived before counts, so
bodies are read here piece by piece: file systems over HTTP give a range whole or not at all, and
take a server at its word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pccodec.errors import DependencyError, SourceError
from pccodec.source.config import TransferConfig
from pccodec.source.forward import BrokenOffError, ForwardFile

if TYPE_CHECKING:
    from requests import Response

_PIECE = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,18})")
_REDIRECTS = 10


class HttpFile:
    """A file on a web server.

    Attributes:
        size: bytes of the file; None before the first answer that tells.
        requests: requests made, those that were redirected counted too.

    Raises:
        DependencyError: the package requests is not installed.
        SourceError: not a URL that can be read.
    """

    def __init__(self, url: str, config: TransferConfig) -> None:
        try:
            import requests
        except ImportError:
            raise DependencyError("URLs need the package requests: pip install 'pccodec[remote]'") from None
        self.size: int | None = None
        self.requests = 0
        self._url = url
        self._name = shown(url)
        self._config = config
        self._etag: str | None = None
        self._forward: ForwardFile | None = None
        self._forward_response: Response | None = None
        self._errors = requests.exceptions
        self._session = requests.Session()
        self._session.max_redirects = _REDIRECTS

    def fetch(self, start: int, stop: int) -> Iterator[bytes]:
        """Pieces of a range, as they arrive; they end early where the file does.

        Raises:
            SourceError: no more can be had. The pieces before it are good.
        """
        at, failures = start, 0
        while at < self._end(stop):
            before = at
            try:
                for piece in self._attempt(at, stop):
                    at += len(piece)
                    yield piece
                # A server may cap its answers, but not at next to nothing.
                if at - before < min(_PIECE, self._end(stop) - before):
                    raise BrokenOffError("less was sent than asked for")
            except BrokenOffError as error:
                failures += 1
                if self._forward is not None or failures > self._config.retries:
                    raise SourceError(f"{self._name}: {error} at byte {at:,}") from error

    def close(self) -> None:
        """Close the connections."""
        if self._forward_response is not None:
            self._forward_response.close()
        self._session.close()

    def _end(self, stop: int) -> int:
        return stop if self.size is None else min(stop, self.size)

    def _attempt(self, start: int, stop: int) -> Iterator[bytes]:
        """What one request gives of a range."""
        if self._forward is not None:
            yield from self._forward.fetch(start, stop)
            return
        response = self._get(start, stop)
        if response.status_code == 200:
            # Stays open: later ranges may follow.
            self._forward_response = response
            size = _length(response, self._name)
            self._check_unchanged(response, size)
            self._forward = ForwardFile(
                self._name, lambda most: _read(response, most, size), size, self._config.whole_limit
            )
            self.size = self._forward.size
            yield from self._forward.fetch(start, stop)
            return
        with closing(response):
            if response.status_code == 416:
                self._no_such_range(response, start)
                return
            yield from self._range(response, start, stop)

    def _range(self, response: Response, start: int, stop: int) -> Iterator[bytes]:
        """The body of an answer of status 206."""
        text = response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(text.strip())
        first, last = (int(match[1]), int(match[2])) if match else (-1, -1)
        total = int(match[3]) if match and match[3] != "*" else None
        length = _length(response, self._name)
        if (
            first != start
            or last < first
            or (total is not None and last >= total)
            or length not in (None, last - first + 1)
        ):
            raise SourceError(
                f"{self._name}: the server contradicts itself: asked for bytes {start}-{stop - 1} it "
                f"announces {text.strip()[:60]!r} and {'no' if length is None else f'{length:,}'} bytes"
            )
        self._check_unchanged(response, total)
        if total is None and self.size is None:
            raise SourceError(f"{self._name}: the server does not say how long the file is: download it")
        left = min(last + 1, stop) - start
        while left:
            piece = _read(response, min(left, _PIECE), None)
            if not piece:
                raise BrokenOffError("the connection was cut")
            left -= len(piece)
            yield piece

    def _no_such_range(self, response: Response, start: int) -> None:
        """Take note of the size that an answer of status 416 gives."""
        match = _UNSATISFIED.fullmatch(response.headers.get("Content-Range", "").strip())
        size = int(match[1]) if match else None
        if size is None or size > start:
            raise SourceError(f"{self._name}: the server refuses a range without need (416)")
        self._check_unchanged(response, size)

    def _check_unchanged(self, response: Response, size: int | None) -> None:
        etag = response.headers.get("ETag")
        if (self.size is not None and size not in (None, self.size)) or (
            self._etag is not None and etag not in (None, self._etag)
        ):
            raise SourceError(f"{self._name}: the file changed, or its length did, while it was read")
        self.size = self.size if size is None else size
        self._etag = self._etag or etag

    def _get(self, start: int, stop: int) -> Response:
        """The answer to a request for a range; its body is not read yet."""
        # What a server compresses on its way has other ranges.
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        self.requests += 1
        try:
            response: Response = self._session.get(
                self._url, headers=headers, stream=True, timeout=self._config.timeout
            )
        except self._errors.RequestException as error:
            broken = isinstance(error, self._errors.ConnectionError)
            if broken and not isinstance(error, self._errors.Timeout):
                raise BrokenOffError(_reason(error)) from error
            raise SourceError(f"{self._name}: {_reason(error)}") from error
        self.requests += len(response.history)
        if response.status_code not in (200, 206, 416):
            response.close()
            raise SourceError(f"{self._name}: the server answers {response.status_code} {response.reason}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise SourceError(f"{self._name}: the server compresses what it sends, which has no byte ranges")
        return response


def shown(url: str) -> str:
    """A URL for messages: without passwords and what may be a key.

    Raises:
        SourceError: not a URL.
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise SourceError(f"not a URL: {error}") from None
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _length(response: Response, name: str) -> int | None:
    """The body's bytes as declared, if they are."""
    text = response.headers.get("Content-Length")
    if text is None or "Transfer-Encoding" in response.headers:
        return None
    if not re.fullmatch(r"\d{1,18}", text.strip()):
        raise SourceError(f"{name}: the server announces {text[:60]!r} bytes")
    return int(text)


def _read(response: Response, most: int, declared: int | None) -> bytes:
    """The next bytes of a body, as soon as there are any; none at its end."""
    from urllib3.exceptions import HTTPError

    try:
        piece: bytes = response.raw.read1(most, decode_content=False)
    except (HTTPError, OSError) as error:
        raise BrokenOffError(_reason(error)) from error
    if not piece and declared is not None and response.raw.tell() < declared:
        raise BrokenOffError("the connection was cut")
    return piece


def _reason(error: Exception) -> str:
    """What is at the bottom of an error of the HTTP library, in a few words."""
    names = {type(error).__name__}
    while True:
        inner: Any = getattr(error, "reason", None)
        if not isinstance(inner, Exception):
            inner = next((arg for arg in error.args if isinstance(arg, Exception)), None)
        if inner is None:
            break
        error = inner
        names.add(type(error).__name__)
    if any("Timeout" in name for name in names):
        return "no answer in time"
    if "IncompleteRead" in names:
        return "the connection was cut"
    return str(getattr(error, "strerror", None) or error)[:200] or type(error).__name__
