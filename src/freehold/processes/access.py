"""Who may call, put together: keys, resource policies, and the authorizer between them."""

import msgspec

from freehold.adapters.cedar.engine import CedarEngine
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.ports.database import Database
from freehold.ports.secrets import Sealer
from freehold.services.access import api, native
from freehold.services.access.authorizer import CedarAuthorizer
from freehold.services.access.policies import ResourcePolicyService
from freehold.services.access.service import AccessKeyService


class Access(msgspec.Struct, frozen=True, kw_only=True):
    keys: AccessKeyService
    policies: ResourcePolicyService
    authorizer: CedarAuthorizer


def make_access(database: Database, sealer: Sealer) -> Access:
    engine = CedarEngine()
    policies = ResourcePolicyService(database, engine)
    return Access(
        keys=AccessKeyService(database, sealer),
        policies=policies,
        authorizer=CedarAuthorizer(engine, policies),
    )


def handlers(policies: ResourcePolicyService) -> dict[str, Handler]:
    return api.handlers(policies)


def operations(keys: AccessKeyService) -> list[Operation]:
    return native.operations(keys)
