"""People, access keys, tenants and the audit."""

from running import RunningPlatform
from tenant_tables.table import Table

TABLE = Table(
    things=("key", "person"),
    marks=("key", "person"),
    paths={"accessKeyId": "{key}", "account": "{account}", "person": "{person}"},
    bodies={
        "AddPerson": {"name": "bob", "roles": ["auditor"]},
        "ChangeAccessKey": {"status": "Inactive"},
        "ChangePerson": {"status": "Disabled"},
        "ChangeTenant": {"status": "Disabled"},
        "CreateAccessKey": {},
        "CreateTenant": {"name": "another"},
        "SetPersonRoles": {"roles": ["admin"]},
    },
    filters={"ListAudit": [{"principal": "{principal}"}]},
)


def made(platform: RunningPlatform, name: str) -> dict[str, str]:
    person = platform.own(
        "/people", method="POST", body={"name": f"ann-{name}", "roles": ["auditor"]}
    )["person"]["personId"]
    key = platform.access_key_id
    return {
        "account": platform.account, "key": key, "person": person,
        "principal": f"arn:aws:iam::{platform.account}:access-key/{key}",
    }  # fmt: skip


def forget(platform: RunningPlatform, values: dict[str, str]) -> None:
    platform.own(f"/people/{values['person']}", method="DELETE")
