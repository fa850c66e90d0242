"""Identifiers: random, and of the alphabets that AgentCore's models demand."""

import secrets
import string
import uuid

_ALPHANUMERIC = string.ascii_letters + string.digits
_ACCESS_KEY_ALPHABET = string.ascii_uppercase + "234567"


def suffixed(name: str, length: int = 10) -> str:
    """`{name}-{random}`: the shape of runtime, gateway and memory ids."""
    return f"{name}-{random_text(length)}"


def random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


def request_id() -> str:
    return str(uuid.uuid4())


def access_key_id() -> str:
    """20 characters, `FHIA` first: never mistaken for one of AWS's own keys."""
    return "FHIA" + "".join(secrets.choice(_ACCESS_KEY_ALPHABET) for _ in range(16))


def secret_access_key() -> str:
    """40 characters, 240 bits."""
    return secrets.token_urlsafe(30)
