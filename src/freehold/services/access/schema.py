"""What Cedar knows of Freehold: two schemas, one for roles and one for resource policies.

In the first an entity has no attributes, and the context holds all that may matter: a decision can
then be kept by these few values, and cannot depend on anything else.
"""

from collections.abc import Iterable

from freehold.services.access.actions import GROUPS, GROUPS_OF, SHAREABLE, UNGROUPED

ROLE = "Freehold::Role"
RESOURCE = "Freehold::Resource"
ACTION = "Freehold::Action"
PRINCIPALS = ("AccessKey", "Person", "OAuthUser", "Session", "Gateway", "Anonymous")

_ROLES = """
namespace Freehold {
    entity Role;
    entity AccessKey, Person in [Role];
    entity OAuthUser, Session, Gateway, Anonymous;
    entity Resource;

    type Circumstances = {
        // The resource is of the caller's own tenant.
        own: Bool,
        // The resource's own policy lets the caller in.
        shared: Bool,
        // The resource's own policy forbids it.
        forbidden: Bool,
        // Of a bearer token: this very resource's authorizer accepted it.
        accepted: Bool,
    };

    action <groups>;
<actions>
}
"""

_SHARING = """
namespace Freehold {
    type Arn = {
        partition: String,
        service: String,
        region: String,
        account: String,
        resource: String,
    };

    // `runtime`: of a session, the ARN of its agent. `user`: the human behind the call.
    entity AccessKey, Person, OAuthUser, Session, Gateway, Anonymous = {
        tenant: String,
        arn: String,
        parts: Arn,
        kind: String,
        user?: String,
        runtime?: String,
    };
    entity Resource = { arn: String };

    // `ip` is absent where a call did not come over the network.
    type Circumstances = { ip?: ipaddr, encrypted: Bool };

<actions>
}
"""


def roles_schema() -> str:
    groups = ", ".join(f'"{group}"' for group in GROUPS)
    actions = [_action(UNGROUPED, ())] + [_action(id, sorted(GROUPS_OF[id])) for id in GROUPS_OF]
    return _ROLES.replace("<groups>", groups).replace("<actions>", "\n".join(actions))


def sharing_schema() -> str:
    return _SHARING.replace("<actions>", "\n".join(_action(id, ()) for id in SHAREABLE))


def _action(id: str, groups: Iterable[str]) -> str:
    parents = ", ".join(f'"{group}"' for group in groups)
    return (
        f'    action "{id}"{f" in [{parents}]" if parents else ""} appliesTo '
        f"{{ principal: [{', '.join(PRINCIPALS)}], resource: [Resource], context: Circumstances }};"
    )
