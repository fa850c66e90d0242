"""boto3's clients, of one session a run: each session reads the models of the services anew, which
takes a tenth of a second and more."""

import functools
import threading
from typing import Any

import boto3

_ONE_AT_A_TIME = threading.Lock()
"""A session may not make two clients at once; clients themselves may be shared."""


def aws_client(service: str, **given: Any) -> Any:
    """Whose keys, endpoint and region are `given`: of the environment it may know what was there
    before."""
    with _ONE_AT_A_TIME:
        return _session().client(service, **given)


@functools.cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()
