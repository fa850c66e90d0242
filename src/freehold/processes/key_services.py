"""The keys that everything secret is sealed under: the platform's own, and who keeps it."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from freehold.adapters.secrets import platform
from freehold.adapters.secrets.aws_kms import AwsKmsKey, kms_region
from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.adapters.secrets.local import LocalKey
from freehold.adapters.secrets.platform import PlatformKeys
from freehold.adapters.secrets.tenants import TenantKeys
from freehold.adapters.secrets.transit import TransitKey
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Database
from freehold.ports.secrets import KeyEncryption
from freehold.settings import Settings, SettingsError, variable

_TRANSIT = "transit:"
# Before the name of a key of the platform's own: so that no tenant's ARN is ever taken for it.
_SERVICE = "service:"


class CustomerKey(msgspec.Struct, frozen=True):
    """A key that a tenant may name by its ARN, and `place`, where it really is."""

    tenant: str
    arn: str
    place: str


def platform_keys(settings: Settings) -> PlatformKeys:
    """What the platform's own secrets are sealed under. A process that cannot have it ends."""
    given, directory = settings.key_encryption_key, settings.state / "keys"
    if given is not None and settings.key_service is not None:
        raise SettingsError("key_encryption_key and key_service exclude one another")
    if given is not None:
        return platform.from_text(given, source=variable("key_encryption_key"))
    place = settings.key_service
    if place is None:
        return platform.from_file(directory / "kek")
    return platform.from_service(
        directory / "kek.wrapped",
        lambda client: _key_at(settings, client, place),
        name=place,
        before=directory / "kek",
    )


def make_tenant_keys(
    settings: Settings, database: Database, own: PlatformKeys, client: KeyServiceClient
) -> TenantKeys:
    """Before `database.start`: it listens. Opened values of one tenant need that tenant's key."""
    customers = customer_keys(settings.vault_customer_keys)

    def named(name: str) -> KeyEncryption | None:
        for key in customers:
            if key.arn == name:
                return _key_at(settings, client, key.place, name=name)
        if name == LocalKey.name:
            # From before there was a key service: its keyring was taken over, and opens it.
            return LocalKey(own.sealer)
        if name.startswith(_SERVICE):
            return _key_at(settings, client, name.removeprefix(_SERVICE), name=name)
        return None

    keeper: KeyEncryption = LocalKey(own.sealer)
    if settings.key_service is not None:
        name = _SERVICE + settings.key_service
        keeper = _key_at(settings, client, settings.key_service, name=name)
    return TenantKeys(database, own=keeper, named=named)


def customer_keys(text: str) -> tuple[CustomerKey, ...]:
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        tenant, _, rest = entry.partition("=")
        arn, _, place = rest.partition("=")
        place = place or arn
        fine = len(tenant) == 12 and tenant.isdigit() and arn.startswith("arn:aws")
        if not fine or not (place.startswith(_TRANSIT) or kms_region(place)):
            raise SettingsError(
                f"{variable('vault_customer_keys')}: {entry!r} is neither ACCOUNT=ARN nor "
                "ACCOUNT=ARN=transit:NAME"
            )
        found.append(CustomerKey(tenant, arn, place))
    return tuple(found)


def _key_at(
    settings: Settings, client: KeyServiceClient, place: str, *, name: str | None = None
) -> KeyEncryption:
    if place.startswith(_TRANSIT):
        if settings.transit_url is None:
            raise SettingsError(f"{place} needs {variable('transit_url')}")
        return TransitKey(
            client,
            url=settings.transit_url,
            mount=settings.transit_mount,
            key=place.removeprefix(_TRANSIT),
            token=_transit_token(settings),
            name=name,
        )
    if kms_region(place) is None:
        raise SettingsError(
            f"{variable('key_service')}: {place!r} is neither transit:NAME nor the ARN of a key in "
            "AWS KMS"
        )
    return AwsKmsKey(client, arn=place, name=name)


def _transit_token(settings: Settings) -> Callable[[], str]:
    def token() -> str:
        if settings.transit_token_file is not None:
            try:
                return Path(settings.transit_token_file).read_text().strip()
            except OSError as error:
                raise Unavailable(f"no token for the transit engine: {error.strerror}") from None
        found = os.environ.get("BAO_TOKEN") or os.environ.get("VAULT_TOKEN")
        if not found:
            raise Unavailable(
                f"no token for the transit engine: {variable('transit_token_file')} or BAO_TOKEN"
            )
        return found

    return token
