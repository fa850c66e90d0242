"""Container images through the running platform: created, invoked, updated, refused."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_parts import Made, directory, file, layer, python_image
from registry_doubles import PROGRAM, push, real_registry
from running import Agent, RunningPlatform, new_session

pytestmark = pytest.mark.timeout(300)

_AGENT = """
import http.server, json, os, urllib.request

HEALTH = "http://127.0.0.1:7400/freehold/v1/health"
print("the agent of the image is up")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("write"):
            with open(asked["write"], "a") as file:
                file.write("x")
        self.answer({
            "cwd": os.getcwd(), "uid": os.getuid(), "home": os.environ["HOME"],
            "from_image": os.environ.get("FROM_IMAGE"), "colour": os.environ.get("COLOUR"),
            "here": sorted(os.listdir(".")), "host": os.path.exists("/usr/bin/env"),
            "size": os.path.getsize(asked["write"]) if asked.get("write") else None,
            "hosts": open("/etc/hosts").read(),
            "health": asked.get("doorway") and urllib.request.urlopen(HEALTH).status,
        })

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def layouts(open_directory: Path) -> Path:
    """Where the operator lets tenants name images."""
    folder = open_directory / "layouts"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
async def registry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The host:port of a real one; empty where this machine has none."""
    if PROGRAM is None:
        yield ""
        return
    async with real_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def images(open_directory: Path, layouts: Path, registry: str) -> Iterator[RunningPlatform]:
    """A platform that takes images from that directory and that registry."""
    with RunningPlatform(
        open_directory / "images",
        allow_process_tier="true",
        image_layout_directories=layouts,
        image_insecure_registries=registry,
    ) as running:
        if running.facts["tier"] != "container":
            pytest.skip("images need a tier that isolates")
        yield running


@pytest.fixture(scope="module")
def layout(layouts: Path) -> Path:
    return python_image(_AGENT).layout(layouts / "agent")


def created(platform: RunningPlatform, uri: str, **params: Any) -> Agent:
    name = f"image_{uuid.uuid4().hex[:8]}"
    made = platform.client("bedrock-agentcore-control").create_agent_runtime(
        agentRuntimeName=name,
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": uri}},
        **platform.common(),
        **params,
    )
    return Agent(platform, made["agentRuntimeId"], made["agentRuntimeArn"])


def ready(platform: RunningPlatform, uri: str, **params: Any) -> Agent:
    agent = created(platform, uri, **params)
    status, reason = agent.settle()
    assert status == "READY", reason
    return agent


@pytest.fixture(scope="module")
def agent(images: RunningPlatform, layout: Path) -> Agent:
    return ready(images, f"oci:{layout}:1", environmentVariables={"COLOUR": "green"})


def test_an_image_answers_with_its_own_files_command_variables_and_place(agent: Agent) -> None:
    said = agent.invoke({"doorway": True})
    assert said["cwd"] == "/srv"
    assert said["here"] == ["agent.py"]
    assert said["from_image"] == "yes"
    assert said["colour"] == "green"
    assert not said["host"], "the host's /usr is seen"
    assert said["health"] == 200, "the doorway is not reached"
    assert "localhost" in said["hosts"]


@pytest.mark.skipif(PROGRAM is None, reason="no docker-registry: apt-get install docker-registry")
async def test_an_image_of_a_registry_answers(images: RunningPlatform, registry: str) -> None:
    made = python_image(_AGENT, compression="zstd", index=True)
    await push(registry, "team/agent", "1.0", made)
    pulled = await asyncio.to_thread(ready, images, f"{registry}/team/agent:1.0")
    said = await asyncio.to_thread(pulled.invoke)
    assert (said["cwd"], said["from_image"]) == ("/srv", "yes")
    log = await asyncio.to_thread(pulled.log, build="true")
    assert any(made.digest in line for line in log), log


def test_what_a_session_writes_beside_its_files_is_its_own_and_goes_with_it(agent: Agent) -> None:
    session = new_session()
    assert [agent.invoke({"write": "/srv/notes"}, session)["size"] for _ in range(2)] == [1, 2]
    assert agent.invoke({"write": "/srv/notes"})["size"] == 1


def test_the_artifact_and_the_log_read_back(agent: Agent, layout: Path) -> None:
    got = agent.control.get_agent_runtime(agentRuntimeId=agent.id)
    uri = got["agentRuntimeArtifact"]["containerConfiguration"]["containerUri"]
    assert uri == f"oci:{layout}:1"
    lines = agent.log(build="true")
    assert any("fetching 2 layers" in line for line in lines), lines
    assert any("'somebody'" in line for line in lines), "its user is left out without a word"
    session = new_session()
    agent.invoke(session=session)
    assert any("the agent of the image is up" in line for line in agent.log(session))


def test_a_tag_that_moves_changes_no_version_that_was_made(
    images: RunningPlatform, layouts: Path
) -> None:
    folder = layouts / "moving"
    python_image(_AGENT.replace('"cwd": os.getcwd()', '"cwd": 1')).layout(folder, "latest")
    moving = ready(images, f"oci:{folder}:latest")
    python_image(_AGENT.replace('"cwd": os.getcwd()', '"cwd": 2')).layout(folder, "latest")
    assert moving.invoke()["cwd"] == 1
    moving.control.update_agent_runtime(
        agentRuntimeId=moving.id,
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": f"oci:{folder}:latest"}},
        **images.common(),
    )
    assert moving.settle()[0] == "READY"
    assert moving.invoke()["cwd"] == 2


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("oci:/etc:1", "FREEHOLD_IMAGE_LAYOUT_DIRECTORIES"),
        ("oci:{layouts}/../../etc", "FREEHOLD_IMAGE_LAYOUT_DIRECTORIES"),
        ("oci:{layouts}/agent:2", "it has 1"),
        ("127.0.0.1:1/agent:1", "FREEHOLD_IMAGE_PRIVATE_REGISTRIES"),
        ("169.254.169.254/agent:1", "never reached"),
        ("UPPER/case", "not an image"),
    ],
)
def test_what_cannot_be_had_fails_with_the_reason(
    images: RunningPlatform, layouts: Path, layout: Path, uri: str, why: str
) -> None:
    status, reason = created(images, uri.format(layouts=layouts)).settle()
    assert status == "CREATE_FAILED"
    assert why in reason


def test_an_image_that_says_no_command_or_is_for_another_machine_fails(
    images: RunningPlatform, layouts: Path
) -> None:
    base = layer(directory("srv"), file("srv/x"))
    for number, (made, why) in enumerate(
        [
            (Made([base], run={"Cmd": None}), "nothing says what to run"),
            (Made([base], architecture="s390x"), "it is for linux/s390x"),
        ]
    ):
        folder = made.layout(layouts / f"unfit-{number}")
        status, reason = created(images, f"oci:{folder}:1").settle()
        assert (status, why in reason) == ("CREATE_FAILED", True), reason


def test_the_process_tier_refuses_an_image(images: RunningPlatform, layout: Path) -> None:
    plain = ready(images, f"oci:{layout}:1", tags={"freehold:tier": "process"})
    assert "container images" in plain.refusal().message


def test_gvisor_runs_the_same_image(images: RunningPlatform, layout: Path) -> None:
    if not shutil.which("runsc"):
        pytest.skip("there is no runsc here: scripts/install-gvisor.sh")
    strong = ready(images, f"oci:{layout}:1", tags={"freehold:tier": "gvisor"})
    session = new_session()
    said = strong.invoke({"write": "/srv/notes", "doorway": True}, session)
    assert (said["size"], said["cwd"], said["health"]) == (1, "/srv", 200)
    assert images.session(session)["tier"] == "gvisor"


def test_an_image_is_unpacked_once(images: RunningPlatform, agent: Agent, layout: Path) -> None:
    again = ready(images, f"oci:{layout}:1")
    assert any("it was unpacked before" in line for line in again.log(build="true"))
