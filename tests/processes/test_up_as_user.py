"""`freehold up` of a user without privileges."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import agents
import freehold
from fault_ground import FaultyPlatform
from freehold.adapters.postgres.account import closed_part, of_server
from running import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NOBODY = of_server("nobody") if os.geteuid() == 0 else of_server(None)


class UsersPlatform(FaultyPlatform):
    """Run by `nobody` where the tests are root's; else by whoever runs them."""

    def __init__(self, state: Path, interpreter: Path) -> None:
        super().__init__(state)
        self._interpreter = interpreter
        self._environment |= {
            "HOME": str(state.parent),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.startswith("/")),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self) -> "UsersPlatform":
        identity = (
            {"user": NOBODY.uid, "group": NOBODY.gid, "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )
        with self.log.open("a") as log:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                [self._interpreter, "-m", "freehold.cli", "up", "--state", str(self.state),
                 "--port", "0", "--json"],
                env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=self.state.parent, **identity,
            )  # fmt: skip
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.facts = json.loads(line)
        vars(self).update(json.loads((self.state / "connection.json").read_text()))
        return self


@pytest.fixture(scope="module")
def users() -> Iterator[UsersPlatform]:
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    found = [Path(sys.executable), *([Path(system)] if system else [])]
    interpreter = next((path for path in found if closed_part(path, NOBODY) is None), None)
    code = Path(freehold.__file__).parent
    if interpreter is None or closed_part(code, NOBODY, read=True) is not None:
        pytest.skip("the interpreter or the code is closed to a normal user")
    with tempfile.TemporaryDirectory(prefix="freehold-user-") as home:
        os.chown(home, NOBODY.uid, NOBODY.gid)
        platform = UsersPlatform(Path(home) / "state", interpreter)
        platform.start()
        yield platform
        platform.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        assert platform.process.wait(30) == 0  # type: ignore[union-attr]
        assert platform.remains() == []


def test_all_of_it_runs_as_that_user(users: UsersPlatform) -> None:
    processes = [users.facts["pid"], *users.pids("node"), *users.pids("api")]
    processes += users.pids("postgres")
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in processes} == {NOBODY.uid}


def test_agents_run_and_what_is_not_measured_says_so(users: UsersPlatform) -> None:
    if users.facts["tier"] != "container":
        pytest.skip("no container tier for a normal user here")
    agent = users.deploy(agents.plain(), runtime=f"PYTHON_3_{sys.version_info.minor}")
    answer = agent.begin()
    seen = json.loads(answer["response"].read())
    assert seen["home"] == []
    session = answer["runtimeSessionId"]
    if "rlimits" in users.facts["tier_detail"]:
        # Its meter is read once a second: until then nothing was used.
        until(lambda: users.session(session)["cpuSeconds"] is None)
    agent.stop(answer["runtimeSessionId"])
