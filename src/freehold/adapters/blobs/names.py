"""What tenants, buckets and keys may be called, in every adapter."""

import ipaddress
import re

from freehold.kernel.errors import ValidationFailed

KEY_BYTES_MAX = 1024

_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_tenant(tenant: str) -> None:
    """A tenant's name becomes a directory or a key prefix: nothing in it may have meaning there."""
    if not _TENANT.fullmatch(tenant):
        raise ValidationFailed("not a tenant's name")


def check_bucket(bucket: str) -> None:
    """S3's rules: 3 to 63 of `a-z0-9.-`, no `..`, no IPv4 address."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _is_ipv4(bucket):
        raise ValidationFailed(
            "a bucket name has 3 to 63 lower-case letters, digits, dots and hyphens,"
            " starts and ends with a letter or digit, has no '..' and is no IP address"
        )


def encode_key(key: str) -> bytes:
    """The key's UTF-8 bytes: what its order and its limit are measured in."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise ValidationFailed("a key is valid UTF-8") from error
    if not 1 <= len(encoded) <= KEY_BYTES_MAX:
        raise ValidationFailed(f"a key has 1 to {KEY_BYTES_MAX} bytes of UTF-8")
    return encoded


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
