"""Functions of ours."""

from running import PYTHON, RunningPlatform
from tenant_tables.table import Table

_CODE = {"runtime": PYTHON, "handler": "main.handler", "code": {"bucket": "b", "key": "k"}}
TABLE = Table(
    bodies={
        "CreateFunction": {"name": "another", **_CODE},
        "InvokeFunction": {"event": {}},
        "UpdateFunction": _CODE,
    },
)


def make(platform: RunningPlatform, name: str) -> None:
    code = platform.upload({"main.py": "def handler(event, context): return event"}, name=name)
    bundle = code["codeConfiguration"]["code"]["s3"]
    place = {"bucket": bundle["bucket"], "key": bundle["prefix"]}
    platform.own("/functions", method="POST", body=_CODE | {"name": name, "code": place})


def forget(platform: RunningPlatform, values: dict[str, str]) -> None:
    platform.own(f"/functions/{values['name']}", method="DELETE")
