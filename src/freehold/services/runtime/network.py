"""How ordinary clients inside a session find the way out: the variables that name a proxy."""

from freehold.ports.egress import SessionEgress

EGRESS_PORT = 7401


def proxy_environment(egress: SessionEgress) -> dict[str, str]:
    """Nothing for a session without a network. NO_PROXY is the doorway's to set."""
    if egress.reach == "none":
        return {}
    proxy = f"http://127.0.0.1:${{LOOPBACK_{EGRESS_PORT}}}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {
        **dict.fromkeys((*names, *(name.lower() for name in names)), proxy),
        "NODE_USE_ENV_PROXY": "1",  # else fetch() of Node.js does not look
    }
