"""Agents that tests deploy, and the bundles that they go in."""

from pathlib import Path

_HERE = Path(__file__).parent


def plain() -> dict[str, str]:
    """Needs no build."""
    return {"main.py": (_HERE / "plain.py").read_text()}


def hosted() -> dict[str, str]:
    """Needs the layer that is built once a run."""
    return {
        "main.py": (_HERE / "hosted.py").read_text(),
        "requirements.txt": "bedrock-agentcore==1.25.0\n",
    }


def spoken() -> dict[str, str]:
    """Servers of MCP, A2A and AG-UI. Needs a layer that is built once a run."""
    return {
        "main.py": (_HERE / "spoken.py").read_text(),
        "requirements.txt": "mcp==2.3.0\na2a-sdk[http-server]==1.3.0\nuvicorn\n",
    }


def talking() -> dict[str, str]:
    """Echoes over its WebSocket. The same layer as `hosted`."""
    return {**hosted(), "main.py": (_HERE / "talking.py").read_text()}


def obeying(requirements: str = "") -> dict[str, str]:
    """Runs the Python that it gets."""
    files = {"main.py": (_HERE / "obeying.py").read_text()}
    return {**files, "requirements.txt": requirements} if requirements else files
