"""The operator's pip configuration, carried into the sandbox, and what must not come out again."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from build_ground import Common, Workshop, common, wheel, workshop_of

from freehold.kernel.errors import PlatformFailed
from freehold.ports.egress import Destination
from freehold.services.runtime.build import BuildFailed, operator_index

# Private networks included: the operator's DNS says where the index is.
PUBLIC = {Destination(host, 443, private=True) for host in ("pypi.org", "files.pythonhosted.org")}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of an operator who has set nothing."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
    }


async def test_without_a_setting_it_is_the_public_index(environ: dict[str, str]) -> None:
    index = await operator_index(environ=environ)
    assert index.destinations == PUBLIC
    assert index.environment["PIP_INDEX_URL"] == "https://pypi.org/simple"
    assert index.secrets == ()


async def test_settings_of_a_file_hold_and_variables_go_before_them(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://first.example/simple\ntimeout = 7\n"
        "[install]\nextra-index-url =\n  https://a.example:8443/simple\n  http://b.example/s\n"
    )
    environ |= {"PIP_CONFIG_FILE": str(file), "PIP_INDEX_URL": "https://second.example/simple"}
    index = await operator_index(environ=environ, hosts_extra=("files.example", "cdn.example:444"))
    assert index.environment["PIP_INDEX_URL"] == "https://second.example/simple"
    assert index.environment["PIP_EXTRA_INDEX_URL"] == (
        "https://a.example:8443/simple http://b.example/s"
    )
    assert index.environment["PIP_TIMEOUT"] == "7"
    assert {(each.host, each.port) for each in index.destinations} == {
        *(("second.example", 443), ("a.example", 8443), ("b.example", 80)),
        *(("files.example", 443), ("cdn.example", 444)),
    }
    assert all(each.private for each in index.destinations)


async def test_directories_become_mounts_and_their_host_paths_are_not_told(
    environ: dict[str, str], tmp_path: Path
) -> None:
    for name in ("wheels", "mirror/simple", "mirror/files"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "listed.html").touch()
    environ |= {
        "PIP_INDEX_URL": f"file://{tmp_path}/mirror/simple",
        "PIP_FIND_LINKS": f"{tmp_path}/wheels {tmp_path}/gone {tmp_path}/listed.html",
    }
    index = await operator_index(environ=environ)
    arguments = dict(zip(index.arguments[1::2], index.arguments[::2], strict=True))
    inside = {mount.source: mount.target for mount in index.mounts}
    assert arguments == {
        inside[f"{tmp_path}/mirror"] + "/simple": "--index-url",
        inside[f"{tmp_path}/wheels"]: "--find-links",
        inside[f"{tmp_path}"] + "/listed.html": "--find-links",
    }
    assert not any(mount.writable for mount in index.mounts)
    assert index.destinations == frozenset()
    assert any("gone does not exist" in note for note in index.notes)
    assert str(tmp_path) not in str(index.environment) + str(index.arguments)


async def test_an_index_directory_that_is_gone_does_not_lead_to_the_public_index(
    environ: dict[str, str], tmp_path: Path
) -> None:
    index = await operator_index(environ={**environ, "PIP_INDEX_URL": f"file://{tmp_path}/gone"})
    assert index.destinations == frozenset()
    assert "--index-url" in index.arguments


async def test_the_whole_machine_is_never_mounted(environ: dict[str, str]) -> None:
    index = await operator_index(environ={**environ, "PIP_FIND_LINKS": "/", "PIP_NO_INDEX": "1"})
    assert "/" not in {mount.source for mount in index.mounts}
    assert index.arguments == ()
    assert index.environment["PIP_NO_INDEX"] == "1"


async def test_what_stays_outside_is_noted(environ: dict[str, str]) -> None:
    environ |= {"PIP_CLIENT_CERT": "/etc/key.pem", "HTTPS_PROXY": "http://proxy.example"}
    index = await operator_index(environ=environ)
    assert len(index.notes) == 2
    assert "key.pem" not in str(index)


async def test_an_address_that_is_none_is_not_shown(environ: dict[str, str]) -> None:
    environ["PIP_INDEX_URL"] = "https://user:canary@host:port/simple"
    with pytest.raises(PlatformFailed) as failure:
        await operator_index(environ=environ)
    assert "canary" not in str(failure.value)


USER, PASSWORD = "operator", "can:ary/7"
ADDRESS_PASSWORD = "can%3Aary%2F7"


class PrivateIndex:
    """A package index on loopback that asks for a password."""

    def __init__(self) -> None:
        self.port = 0
        self.files: dict[str, bytes] = {}
        self.refused = 0

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        status, body = "404 Not Found", b""
        if f"authorization: basic {expected}".lower() not in head.lower():
            self.refused += 1
            status = '401 Unauthorized\r\nWWW-Authenticate: Basic realm="index"'
        elif path.startswith("/files/") and path[7:] in self.files:
            status, body = "200 OK", self.files[path[7:]]
        elif path.startswith("/simple/"):
            name = path.split("/")[2]
            links = [
                f'<a href="/files/{file}#sha256={hashlib.sha256(content).hexdigest()}">{file}</a>'
                for file, content in self.files.items()
                if file.startswith(name)
            ]
            if links:
                status, body = "200 OK", "\n".join(links).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def private_index() -> AsyncIterator[PrivateIndex]:
    index = PrivateIndex()
    server = await asyncio.start_server(index.accepted, "127.0.0.1", 0)
    index.port = server.sockets[0].getsockname()[1]
    yield index
    server.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Common]:
    with common() as made:
        yield made


@pytest.fixture
async def workshop(shared: Common) -> AsyncIterator[Workshop]:
    async with workshop_of("container", shared) as (made, probe):
        if not probe.available:
            pytest.skip(probe.detail)
        yield made


def shows_the_password(workshop: Workshop) -> list[str]:
    shown = []
    for path in workshop.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if PASSWORD.encode() in content or ADDRESS_PASSWORD.encode() in content:
                shown.append(str(path))
    return shown


async def test_a_private_index_with_a_password_serves_wheels_and_the_password_is_nowhere(
    workshop: Workshop, private_index: PrivateIndex, caplog: pytest.LogCaptureFixture
) -> None:
    private_index.files["greeting-1.0-py3-none-any.whl"] = wheel(
        "greeting", "1.0", {"greeting.py": "hello = 1"}
    )
    address = f"http://{USER}:{ADDRESS_PASSWORD}@127.0.0.1:{private_index.port}/simple"
    environ = workshop.pip_environment(PIP_INDEX_URL=address)
    builder = workshop.builder(index=lambda: operator_index(environ=environ))
    caplog.set_level(0)

    result = await builder.build(await workshop.request({"requirements.txt": "greeting\n"}))
    assert await workshop.imports(result, "import greeting; print(greeting.hello)") == "1"

    with pytest.raises(BuildFailed) as failure:
        await builder.build(await workshop.request({"requirements.txt": "absent\n"}))
    assert shows_the_password(workshop) == []
    for text in (str(failure.value), caplog.text):
        assert PASSWORD not in text and ADDRESS_PASSWORD not in text


@pytest.mark.parametrize("requirement", ["spy\n", "./spy\n", "--no-binary=:all:\nspy\n"])
async def test_where_the_index_has_a_password_no_code_of_others_runs_in_a_build(
    workshop: Workshop, private_index: PrivateIndex, requirement: str
) -> None:
    backend = "import sys\nprint('spy ran')\nsys.exit('spy ran')\n"
    workshop.publish_sdist("spy", backend)
    private_index.files["spy-1.0.zip"] = (workshop.wheels / "spy-1.0.zip").read_bytes()
    address = f"http://{USER}:{ADDRESS_PASSWORD}@127.0.0.1:{private_index.port}/simple"
    environ = workshop.pip_environment(PIP_INDEX_URL=address)
    builder = workshop.builder(index=lambda: operator_index(environ=environ))
    project = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    request = await workshop.request(
        {
            "requirements.txt": requirement,
            "spy/pyproject.toml": project,
            "spy/backend.py": backend,
        }
    )
    with pytest.raises(BuildFailed):
        await builder.build(request)
    assert "spy ran" not in workshop.log(request)
    assert shows_the_password(workshop) == []
