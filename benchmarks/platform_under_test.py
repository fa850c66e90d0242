"""A platform for one benchmark run: started in a temporary state, an agent deployed on it."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AGENT = Path(__file__).parent / "agent"


class PlatformUnderTest:
    def __init__(self, state: Path, process: "subprocess.Popen[str]", facts: dict[str, Any]):
        self.state, self.process, self.facts = state, process, facts
        self.connection = json.loads((state / "connection.json").read_text())
        self.endpoint: str = self.connection["endpoint"]

    def client(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.endpoint + ("/_s3" if service == "s3" else ""),
            region_name=self.connection["region"],
            aws_access_key_id=self.connection["access_key_id"],
            aws_secret_access_key=self.connection["secret_access_key"],
            config=Config(read_timeout=600, retries={"total_max_attempts": 1}),
        )

    def own(self, path: str, **query: str) -> dict[str, Any]:
        """What our own API answers to a GET, `path` below /freehold/v1."""
        return self._own("GET", f"{path}?{urllib.parse.urlencode(query)}", None)

    def own_put(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._own("PUT", path, json.dumps(document).encode())

    def _own(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        url = f"{self.endpoint}/freehold/v1{path}"
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = AWSRequest(method=method, url=url, data=body, headers=headers)
        credentials = Credentials(
            self.connection["access_key_id"], self.connection["secret_access_key"]
        )
        SigV4Auth(credentials, "freehold", self.connection["region"]).add_auth(request)
        sent = dict(request.headers.items())
        asked = urllib.request.Request(url, body, sent, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def processes(self) -> dict[str, int]:
        """{"node": pid, "api": pid, ...} of this platform's own processes."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == (
                    self.process.pid
                ):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"freehold.app" in words:
                        kind = words[words.index(b"freehold.app") + 1].decode()
                        found[kind] = int(entry.name)
        return found

    def deploy(
        self,
        name: str,
        folder: Path = AGENT,
        entry_point: tuple[str, ...] = ("main.py",),
        **more: Any,
    ) -> str:
        bundle = io.BytesIO()
        with zipfile.ZipFile(bundle, "w") as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(folder))
        s3, control = self.client("s3"), self.client("bedrock-agentcore-control")
        s3.create_bucket(Bucket="bench")
        s3.put_object(Bucket="bench", Key=f"{name}.zip", Body=bundle.getvalue())
        runtime = control.create_agent_runtime(
            agentRuntimeName=name,
            agentRuntimeArtifact={
                "codeConfiguration": {
                    "code": {"s3": {"bucket": "bench", "prefix": f"{name}.zip"}},
                    "runtime": f"PYTHON_3_{sys.version_info.minor}",
                    "entryPoint": list(entry_point),
                }
            },
            roleArn=f"arn:aws:iam::{self.connection['account']}:role/bench",
            networkConfiguration={"networkMode": "PUBLIC"},
            **more,
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            seen = control.get_agent_runtime(agentRuntimeId=runtime["agentRuntimeId"])
            if seen["status"] == "READY":
                return str(runtime["agentRuntimeArn"])
            if seen["status"] != "CREATING":
                sys.exit(f"{seen['status']}: {seen.get('failureReason')}")
            time.sleep(0.2)
        sys.exit("the agent was not READY in 300 s")


@contextlib.contextmanager
def platform(*arguments: str) -> Iterator[PlatformUnderTest]:
    with tempfile.TemporaryDirectory(prefix="freehold-bench-", ignore_cleanup_errors=True) as path:
        state = Path(path)
        process = subprocess.Popen(
            [sys.executable, "-m", "freehold.cli", "up", "--state", path, "--port", "0", "--json",
             *arguments],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("freehold up did not start")
        try:
            yield PlatformUnderTest(state, process, json.loads(line))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def until_listening(port: int, seconds_max: float = 60) -> None:
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")
