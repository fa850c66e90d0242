"""examples/gateway, as somebody runs it who just arrived."""

import os
import subprocess
import sys

import pytest
from gateway_bench import EXAMPLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_example_puts_an_api_behind_a_gateway_and_an_agent_uses_it() -> None:
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FREEHOLD_", "OPENAI_"))
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py")],
        env=inherited, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"answer": "It was Slocum, says the library."' in done.stdout
    assert "library___lendBook" not in done.stdout.partition("4. It is asked")[2]
    assert "InvokeGateway" in done.stdout
