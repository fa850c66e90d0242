"""Registries on loopback: one that can misbehave, and Debian's docker-registry."""

import asyncio
import base64
import contextlib
import io
import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from image_parts import Made

_FOLDERS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
PROGRAM = shutil.which("docker-registry", path=_FOLDERS)
_TOKEN, _PASSWORD = "a-token", "a-password"


class FakeRegistry:
    """Holds one image under any name. What it does wrong is said by its attributes."""

    def __init__(self, made: Made, tag: str = "1") -> None:
        self.made, self.tag = made, tag
        self.login = ""  # "bearer" or "basic"
        self.realm: str | None = None
        self.cut_off = 0  # so many blobs end early, after 100 bytes
        self.failures = 0  # so many answers are 503 first
        self.redirect: str | None = None  # where blobs are, in place of here
        self.location: str | None = None  # what every blob's redirect says, as it is
        self.lies: dict[str, bytes] = {}  # by digest
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.authorizations: list[str] = []
        self.host = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeRegistry"]:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_get("/v2/{name:.*}/manifests/{version}", self._manifest)
        app.router.add_get("/v2/{name:.*}/blobs/{digest}", self._blob)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def uri(self, name: str = "team/agent") -> str:
        return f"{self.host}/{name}:{self.tag}"

    async def _token(self, request: web.Request) -> web.Response:
        self.asked["token"] += 1
        self.authorizations.append(request.headers.get("Authorization", ""))
        assert request.query["scope"] == "repository:team/agent:pull"
        if request.headers.get("Authorization") != basic("user", _PASSWORD):
            return web.Response(status=401)
        return web.json_response({"token": _TOKEN})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.failures:
            self.failures -= 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        given = request.headers.get("Authorization", "")
        realm = self.realm or f"http://{self.host}/token"
        if self.login == "bearer" and given != f"Bearer {_TOKEN}":
            asked = f'Bearer realm="{realm}",service="it",scope="repository:team/agent:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": asked})
        if self.login == "basic" and given != basic("user", _PASSWORD):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="it"'})
        return None

    async def _manifest(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        version = request.match_info["version"]
        digest = self.made.root if version == self.tag else version
        return self._answer(digest)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        if self.location is not None:
            return web.Response(status=307, headers={"Location": self.location})
        if self.redirect is not None:
            raise web.HTTPTemporaryRedirect(f"{self.redirect}/v2/x/blobs/{digest}?signed=a%2Fb")
        self.authorizations.append(request.headers.get("Authorization", ""))
        if refusal := self._refusal(request):
            return refusal
        self.asked[digest] += 1
        content = self.lies.get(digest, self.made.blobs.get(digest, b""))
        start, status = 0, 200
        if "Range" in request.headers:
            self.ranges.append(request.headers["Range"])
            start, status = int(request.headers["Range"][6:].partition("-")[0]), 206
        if self.cut_off and len(content) - start > 100:
            self.cut_off -= 1
            answer = web.StreamResponse(status=status)
            answer.content_length = len(content) - start
            await answer.prepare(request)
            await answer.write(content[start : start + 100])
            assert request.transport is not None
            request.transport.close()
            return answer
        return web.Response(status=status, body=content[start:])

    def _answer(self, digest: str) -> web.Response:
        content = self.lies.get(digest, self.made.blobs.get(digest))
        if content is None:
            return web.Response(status=404)
        return web.Response(body=content, content_type=self.made.media_types[digest])


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def login(folder: Path, host: str, password: str = _PASSWORD) -> Path:
    """A docker config.json with the user of `host`."""
    pair = base64.b64encode(f"user:{password}".encode()).decode()
    path = folder / "config.json"
    path.write_text(f'{{"auths": {{"{host}": {{"auth": "{pair}"}}}}}}')
    return path


@contextlib.asynccontextmanager
async def real_registry(folder: Path) -> AsyncIterator[str]:
    """Its host:port."""
    assert PROGRAM is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '{host}'}}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "serve", str(config)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with session.get(f"http://{host}/v2/"):
                        break
                await asyncio.sleep(0.02)
        yield host
    finally:
        process.terminate()
        await process.wait()


async def push(host: str, name: str, tag: str, made: Made) -> None:
    """As the distribution specification has it."""
    base = f"http://{host}/v2/{name}"
    manifests = {digest for digest, kind in made.media_types.items() if "config" not in kind}
    manifests = {each for each in manifests if "layer" not in made.media_types[each]}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for digest, content in made.blobs.items():
            if digest not in manifests:
                async with session.post(f"{base}/blobs/uploads/") as begun:
                    place = begun.headers["Location"]
                where = f"{place}{'&' if '?' in place else '?'}digest={digest}"
                async with session.put(where, data=io.BytesIO(content)):
                    pass
        for digest in sorted(manifests, key=lambda each: each == made.root):
            version = tag if digest == made.root else digest
            headers = {"Content-Type": made.media_types[digest]}
            async with session.put(
                f"{base}/manifests/{version}", data=made.blobs[digest], headers=headers
            ):
                pass
