"""A client of our own API, /freehold/v1: JSON over HTTP, signed with SigV4 as `freehold`."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from freehold.cli.connection import Connection
from freehold.cli.errors import refused
from freehold.cli.failure import CliError

PREFIX = "/freehold/v1/"
CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 60.0
_CHUNK_BYTES = 65536


class OwnApi:
    """Raises CliError for what the platform refuses; urllib3's errors pass as they are."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._signer = SigV4Auth(
            Credentials(
                connection.access_key_id, connection.secret_access_key, connection.session_token
            ),
            "freehold",
            connection.region,
        )
        self._pool = urllib3.PoolManager(
            retries=False,
            ca_certs=connection.ca_certificate or os.environ.get("AWS_CA_BUNDLE") or None,
        )

    def get(self, *path: str, **query: Any) -> Any:
        return self._call("GET", path, query=query)

    def post(self, *path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, body=body)

    def patch(self, *path: str, body: Mapping[str, Any]) -> Any:
        return self._call("PATCH", path, body=body)

    def put(self, *path: str, body: Mapping[str, Any]) -> Any:
        return self._call("PUT", path, body=body)

    def delete(self, *path: str) -> Any:
        return self._call("DELETE", path)

    def pages(self, *path: str, items: str, limit: int | None = None, **query: Any) -> list[Any]:
        """All items of a paged list, or the first `limit`."""
        found: list[Any] = []
        token = None
        while True:
            page = self.get(*path, **query, nextToken=token)
            found += page[items]
            token = page.get("nextToken")
            if not token or (limit is not None and len(found) >= limit):
                return found[:limit]

    @contextmanager
    def lines(
        self,
        *path: str,
        follow: bool | None = None,
        body: Mapping[str, Any] | None = None,
        **query: Any,
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """The objects of an NDJSON answer as they come; it is closed at the end of the `with`. With
        a `body` it is a POST.

        None: the operation has no `follow`, and takes its time.
        """
        with self.texts(*path, follow=follow, body=body, **query) as texts:
            yield (json.loads(text) for text in texts)

    @contextmanager
    def texts(
        self,
        *path: str,
        follow: bool | None = None,
        body: Mapping[str, Any] | None = None,
        **query: Any,
    ) -> Iterator[Iterator[bytes]]:
        """The same lines, unread."""
        if follow is not None:
            query["follow"] = "true" if follow else "false"
        answer = self._open(
            "GET" if body is None else "POST",
            path,
            query=query,
            body=body,
            read_seconds_max=ANSWER_SECONDS_MAX if follow is False else None,
        )
        try:
            yield _lines(answer)
        finally:
            answer.close()

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = self._open(method, path, query=query, body=body)
        data = answer.read()
        answer.release_conn()
        try:
            return json.loads(data) if data else {}
        except ValueError:
            raise self._not_ours(answer) from None

    def _open(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        read_seconds_max: float | None = ANSWER_SECONDS_MAX,
    ) -> urllib3.BaseHTTPResponse:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = self._connection.endpoint + PREFIX + "/".join(quote(part, safe="") for part in path)
        if given:
            url += "?" + urlencode(given, quote_via=quote)
        request = AWSRequest(
            method=method,
            url=url,
            data=b"" if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"Content-Type": "application/json"},
        )
        self._signer.add_auth(request)
        answer = self._pool.request(
            method,
            url,
            body=request.data or None,
            headers=dict(request.headers.items()),
            preload_content=False,
            redirect=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS_MAX, read=read_seconds_max),
        )
        if answer.status >= 300:
            self._refuse(answer)
        return answer

    def _refuse(self, answer: urllib3.BaseHTTPResponse) -> None:
        text = answer.read().decode(errors="replace")
        answer.release_conn()
        try:
            error = json.loads(text)["error"]
            code, message = str(error["code"]), str(error["message"])
            request_id = error.get("requestId")
        except (ValueError, KeyError, TypeError):
            raise self._not_ours(answer) from None
        raise refused(code, message, request_id, self._connection)

    def _not_ours(self, answer: urllib3.BaseHTTPResponse) -> CliError:
        """A proxy in between, or something else on that port."""
        return CliError(
            f"{self._connection.endpoint} answered {answer.status}, and not as Freehold does.",
            code=f"Http{answer.status}",
        )


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    pending = b""
    while chunk := answer.read1(_CHUNK_BYTES):
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
    if pending.strip():
        yield pending
