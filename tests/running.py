"""A real platform for tests: `freehold up` in a process of its own, and boto3 pointed at it."""

import asyncio
import contextlib
import copy
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from aws_clients import aws_client
from freehold.adapters.postgres.configuration import DATABASE, ROLE
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.services.access.model import NewAccessKey
from freehold.services.access.service import AccessKeyService

T = TypeVar("T")

START_SECONDS_MAX = 180
READY_SECONDS_MAX = 180
PYTHON = f"PYTHON_3_{sys.version_info.minor}"


_NOT_INHERITED = ("AWS_", "FREEHOLD_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "MISTRAL_")
SETTLED = frozenset({"READY", "CREATE_FAILED", "UPDATE_FAILED"})


def layer_cache() -> Path:
    """Where installed requirements stay between runs: FREEHOLD_TEST_LAYER_CACHE, or below /tmp."""
    given = os.environ.get("FREEHOLD_TEST_LAYER_CACHE")
    default = Path(tempfile.gettempdir()) / f"freehold-test-layers-{os.getuid()}"
    cache = Path(given) if given else default
    cache.mkdir(parents=True, exist_ok=True)
    assert cache.stat().st_uid == os.getuid(), f"{cache} is somebody else's"
    cache.chmod(0o711)  # sandboxes' users pass through
    return cache


class RunningPlatform:
    """Started by `start`; a state directory outlives any number of starts."""

    def __init__(
        self,
        state: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        self.state = state
        self._arguments = arguments
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)},
            "FREEHOLD_DATABASE_DURABLE": "false",
            **{f"FREEHOLD_{name.upper()}": str(value) for name, value in settings.items()},
            **(environment or {}),
        }
        self.log = state.parent / f"{state.name}.log"
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}

    # -- its life

    def start(self) -> "RunningPlatform":
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "freehold.cli", "up", "--state", str(self.state),
                 "--port", "0", "--json", *self._arguments],
                env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"freehold up did not start:\n{self.log.read_text()[-4000:]}"
        self.facts = json.loads(line)
        connection = json.loads((self.state / "connection.json").read_text())
        self.endpoint: str = connection["endpoint"]
        self.region: str = connection["region"]
        self.account: str = connection["account"]
        self.access_key_id: str = connection["access_key_id"]
        self.secret_access_key: str = connection["secret_access_key"]
        return self

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        log = self.log.read_text(errors="replace")
        assert "Exception in callback" not in log, f"an error that nobody caught: {log[-4000:]}"
        return code

    def __enter__(self) -> "RunningPlatform":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pids(self, kind: str) -> list[int]:
        """Of "node", "api" or "postgres"."""
        assert self.process is not None
        if kind == "postgres":
            pidfile = self.state / "postgres" / "data" / "postmaster.pid"
            return [int(pidfile.read_text().split()[0])]
        return [
            pid
            for pid in children_of(self.process.pid)
            # One that was forked just now is not yet what it will be.
            if ["freehold.app", kind] in [list(pair) for pair in pairwise(_words(pid))]
        ]

    @property
    def database_url(self) -> str:
        """Of the embedded server, as its own socket's path says."""
        pid_file = self.state / "postgres" / "data" / "postmaster.pid"
        sockets = quote(pid_file.read_text().splitlines()[4], safe="")
        return f"postgresql://{ROLE}@/{DATABASE}?host={sockets}"

    # -- its clients

    def as_tenant(self, account: str) -> "RunningPlatform":
        """The same platform, seen with an access key of another account."""
        key = asyncio.run(self._new_key(account))
        other = copy.copy(self)
        other.account, other.access_key_id, other.secret_access_key = account, key.id, key.secret
        return other

    async def _new_key(self, account: str) -> NewAccessKey:
        database = PostgresDatabase(self.database_url, pool_size_max=2, application_name="tests")
        sealer = EnvelopeSealer(Keyring.from_file(self.state / "keys" / "kek"))
        keys = AccessKeyService(database, sealer)
        await database.start()
        try:
            return await keys.create(account, "a test's")
        finally:
            await keys.close()
            await database.close()

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        sign: bool = True,
        seconds_max: float = 60,
        **query: Any,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """A request to our own API, `path` below /freehold/v1; its answer as it comes."""
        url = f"{self.endpoint}/freehold/v1{path}"
        if query:
            url += "?" + urlencode(query, quote_via=quote)
        data = b"" if body is None else body if isinstance(body, bytes) else _json(body)
        request = AWSRequest(method=method, url=url, data=data)
        if sign:
            credentials = Credentials(self.access_key_id, self.secret_access_key)
            SigV4Auth(credentials, "freehold", self.region).add_auth(request)
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request(
                method, url, body=data or None, headers=dict(request.headers.items()),
                preload_content=False, redirect=False, timeout=seconds_max,
            )  # fmt: skip
            try:
                yield answer
            finally:
                answer.close()

    def own(self, path: str, *, method: str = "GET", **more: Any) -> Any:
        """The document that our own API answers with."""
        with self.open(method, path, **more) as answer:
            data = answer.read()
            assert answer.status < 300, data
            return json.loads(data) if data else None

    def lines(self, path: str, **query: Any) -> list[dict[str, Any]]:
        with self.open("GET", path, **query) as answer:
            assert answer.status == 200, answer.read()
            return [json.loads(line) for line in answer.read().splitlines()]

    @contextlib.contextmanager
    def following(self, path: str, **query: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """JSON lines as they come."""
        with self.open("GET", path, **query) as answer:
            assert answer.status == 200, answer.read()
            yield _objects(answer)

    def session(self, session: str) -> dict[str, Any]:
        """What our own API says of a session's newest sandbox."""
        found = self.own("/sessions", sessionId=session, status="all")["sessions"]
        assert found, f"no session {session}"
        return dict(found[0])

    def ended(self, session: str, *, seconds_max: float = 30) -> str:
        """Why a session ended, once it has."""
        until(lambda: self.session(session)["endedAt"], seconds_max=seconds_max)
        return str(self.session(session)["endReason"])

    def client(self, service: str, **more: Any) -> Any:
        config: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "read_timeout": 180}
        config |= more.pop("config", {})
        return aws_client(
            service,
            **{
                "endpoint_url": self.endpoint + ("/_s3" if service == "s3" else ""),
                "region_name": self.region,
                "aws_access_key_id": self.access_key_id,
                "aws_secret_access_key": self.secret_access_key,
                "config": Config(**config),
                **more,
            },
        )

    def deploy(
        self, files: Mapping[str, str | bytes], *, name: str | None = None, **params: Any
    ) -> "Agent":
        """A new agent runtime from these files, once it is READY."""
        agent = self.create(files, name=name, **params)
        status, reason = agent.settle()
        assert status == "READY", f"{status}: {reason}"
        return agent

    def create(
        self,
        files: Mapping[str, str | bytes],
        *,
        name: str | None = None,
        runtime: str = PYTHON,
        entry_point: tuple[str, ...] = ("main.py",),
        **params: Any,
    ) -> "Agent":
        name = name or f"agent_{uuid.uuid4().hex[:8]}"
        artifact = self.upload(files, name=name, runtime=runtime, entry_point=entry_point)
        created = self.client("bedrock-agentcore-control").create_agent_runtime(
            agentRuntimeName=name, agentRuntimeArtifact=artifact, **self.common(), **params
        )
        return Agent(self, created["agentRuntimeId"], created["agentRuntimeArn"])

    def common(self) -> dict[str, Any]:
        return {
            "roleArn": f"arn:aws:iam::{self.account}:role/test",
            "networkConfiguration": {"networkMode": "PUBLIC"},
        }

    def upload(
        self,
        files: Mapping[str, str | bytes],
        *,
        name: str,
        runtime: str = PYTHON,
        entry_point: tuple[str, ...] = ("main.py",),
    ) -> dict[str, Any]:
        bundle = io.BytesIO()
        with zipfile.ZipFile(bundle, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        s3 = self.client("s3")
        s3.create_bucket(Bucket="tests")
        key = f"{name}-{uuid.uuid4().hex}.zip"
        s3.put_object(Bucket="tests", Key=key, Body=bundle.getvalue())
        return {
            "codeConfiguration": {
                "code": {"s3": {"bucket": "tests", "prefix": key}},
                "runtime": runtime,
                "entryPoint": list(entry_point),
            }
        }


class Refusal(NamedTuple):
    """An error as a client of AWS sees it. `kind` is the name of the class that boto3 raises."""

    status: int
    code: str
    message: str
    kind: str


def refusal(call: Callable[[], Any]) -> Refusal:
    try:
        answer = call()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        said = error.response["Error"]
        return Refusal(status, said["Code"], said["Message"], type(error).__name__)
    raise AssertionError(f"it was not refused: {answer}")


class Agent:
    """A deployed agent runtime, invoked through boto3."""

    def __init__(self, platform: RunningPlatform, runtime_id: str, arn: str) -> None:
        self.platform, self.id, self.arn = platform, runtime_id, arn
        self.control = platform.client("bedrock-agentcore-control")
        self.data = platform.client("bedrock-agentcore", config={"max_pool_connections": 256})

    def settle(self) -> tuple[str, str]:
        """(status, reason) once neither CREATING nor UPDATING."""
        seen: dict[str, Any] = {}

        def settled() -> bool:
            nonlocal seen
            seen = self.control.get_agent_runtime(agentRuntimeId=self.id)
            return seen["status"] in SETTLED

        until(settled, seconds_max=READY_SECONDS_MAX)
        return seen["status"], seen.get("failureReason", "")

    def invoke(self, payload: Any = None, session: str | None = None, **more: Any) -> Any:
        """The whole answer, decoded when it is JSON."""
        answer = self.begin(payload, session, **more)
        body = answer["response"].read()
        return json.loads(body) if answer["contentType"].startswith("application/json") else body

    def begin(self, payload: Any = None, session: str | None = None, **more: Any) -> Any:
        body = payload if isinstance(payload, bytes) else json.dumps(payload or {}).encode()
        return self.data.invoke_agent_runtime(
            agentRuntimeArn=self.arn,
            payload=body,
            runtimeSessionId=session or new_session(),
            **more,
        )

    def events(self, payload: Any, session: str | None = None) -> list[Any]:
        return list(events_of(self.begin(payload, session)))

    def refusal(self, payload: Any = None, session: str | None = None, **more: Any) -> Refusal:
        """How a call fails that is not answered."""
        return refusal(lambda: self.begin(payload, session, **more))

    def stop(self, session: str, **more: Any) -> Any:
        return self.data.stop_runtime_session(
            agentRuntimeArn=self.arn, runtimeSessionId=session, **more
        )

    def log(self, session: str | None = None, **query: Any) -> list[str]:
        if session is not None:
            query["sessionId"] = session
        lines = self.platform.lines(f"/runtimes/{self.id}/logs", **query)
        return [line["line"] for line in lines]

    def delete(self) -> None:
        self.control.delete_agent_runtime(agentRuntimeId=self.id)


def events_of(answer: Any) -> Iterator[Any]:
    """The events of an answer in SSE, each as soon as it is there."""
    pending = b""
    for chunk in answer["response"].iter_chunks(1):
        pending += chunk
        if pending.endswith(b"\n\n"):
            for line in pending.splitlines():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
            pending = b""
    assert not pending.strip(), f"a broken event: {pending!r}"


def together(*calls: Callable[[], T]) -> list[T]:
    """What each call returns, all made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(180) for future in [pool.submit(call) for call in calls]]


def _objects(answer: urllib3.BaseHTTPResponse) -> Iterator[dict[str, Any]]:
    pending = b""
    while chunk := answer.read1(65536):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from (json.loads(line) for line in whole)


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def new_session() -> str:
    return f"session-{uuid.uuid4()}"


def until(true: Callable[[], Any], *, seconds_max: float = 180, every: float = 0.05) -> Any:
    """The first true value. Bounded."""
    deadline = time.monotonic() + seconds_max
    while True:
        if value := true():
            return value
        assert time.monotonic() < deadline, f"not true within {seconds_max} s"
        time.sleep(every)


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(entry.name))
    return [pid for pid in found if "freehold.app" in _words(pid)]


def _words(pid: int) -> list[str]:
    try:
        return [w.decode() for w in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []
