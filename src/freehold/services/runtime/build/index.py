"""Where packages come from: the operator's own pip configuration, made to work in a sandbox."""

import ast
import asyncio
import contextlib
import os
import re
import ssl
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from freehold.kernel.errors import PlatformFailed
from freehold.ports.egress import Destination
from freehold.ports.sandbox import Mount

_PUBLIC_INDEX = "https://pypi.org/simple"
# The public index answers with links to this host.
_PUBLIC_FILES = Destination("files.pythonhosted.org", 443, private=True)
_INSIDE = "/opt/freehold-build/index"
_SETTING = re.compile(r"(global|install|:env:)\.([a-z0-9-]+)=(.*)")
_SECONDS_MAX = 30
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class PackageIndex(msgspec.Struct, frozen=True, kw_only=True):
    """How pip is told, and what it needs for it.

    `secrets` are texts that must not be shown; there are some only when the index asks for a
    credential, which pip then has in its environment.
    """

    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    destinations: frozenset[Destination] = frozenset()
    secrets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def operator_index(
    *, hosts_extra: tuple[str, ...] = (), environ: Mapping[str, str] | None = None
) -> PackageIndex:
    """As `pip install` of whoever runs the platform would look for packages.

    `hosts_extra` (`host` or `host:port`) are those that the index links to, beside its own; of
    the public index they are known.
    """
    environ = os.environ if environ is None else environ
    found = _Carrier(await _pip_settings(environ), environ)
    try:
        found.indexes()
        found.links()
    except ValueError:  # shown without its text, which may hold a password
        raise PlatformFailed("pip's configuration has an address that is not one") from None
    found.transport()
    for host in hosts_extra:
        name, _, port = host.partition(":")
        found.destinations.add(Destination(name.lower(), int(port or 443), private=True))
    return found.index()


async def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that hold for `pip install`, whichever file or variable they stand in."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "config", "list"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(environ),
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _SECONDS_MAX)
    except TimeoutError as error:
        raise PlatformFailed("pip did not tell its configuration in time") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    settings: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in output.decode().splitlines():
        match = _SETTING.fullmatch(line)
        if match is not None:
            settings[match[1]][match[2]] = str(ast.literal_eval(match[3]))
    return settings["global"] | settings["install"] | settings[":env:"]


class _Carrier:
    """Collects what the settings become inside."""

    def __init__(self, settings: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._arguments: list[str] = []
        self._variables: dict[str, str] = {}
        self._mounts: list[Mount] = []
        self._secrets: set[str] = set()
        self._notes: list[str] = []
        self.destinations: set[Destination] = set()

    def index(self) -> PackageIndex:
        return PackageIndex(
            arguments=tuple(self._arguments),
            environment=self._variables,
            mounts=tuple(self._mounts),
            destinations=frozenset(self.destinations),
            secrets=tuple(sorted(self._secrets)),
            notes=tuple(self._notes),
        )

    def indexes(self) -> None:
        if self._settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
            self._variables["PIP_NO_INDEX"] = "1"
            return
        main = self._settings.get("index-url", "")
        if main in ("", _PUBLIC_INDEX, f"{_PUBLIC_INDEX}/"):
            main = main or _PUBLIC_INDEX
            self.destinations |= {Destination("pypi.org", 443, private=True), _PUBLIC_FILES}
        extra = self._settings.get("extra-index-url", "").split()
        self._carry([main], option="--index-url", variable="PIP_INDEX_URL")
        self._carry(extra, option="--extra-index-url", variable="PIP_EXTRA_INDEX_URL")

    def links(self) -> None:
        links = self._settings.get("find-links", "").split()
        self._carry(links, option="--find-links", variable="PIP_FIND_LINKS")

    def transport(self) -> None:
        """Certificates, time-outs, and what cannot come along."""
        for name in ("trusted-host", "timeout", "default-timeout", "retries"):
            if name in self._settings:
                self._variables["PIP_" + name.upper().replace("-", "_")] = self._settings[name]
        known = (
            self._settings.get("cert"),
            self._environ.get("REQUESTS_CA_BUNDLE"),
            self._environ.get("SSL_CERT_FILE"),
            ssl.get_default_verify_paths().cafile,
            *_AUTHORITIES,
        )
        for path in known:
            if path and Path(path).is_file():
                self._mounts.append(Mount(os.path.realpath(path), f"{_INSIDE}/authorities.pem"))
                for variable in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
                    self._variables[variable] = f"{_INSIDE}/authorities.pem"
                break
        if "client-cert" in self._settings:
            self._notes.append("pip's client-cert is a secret: it is not carried into the sandbox")
        if "proxy" in self._settings or _ANY_PROXY & {name.lower() for name in self._environ}:
            self._notes.append("builds reach the package index directly, not through a proxy")

    def _carry(self, places: Iterable[str], *, option: str, variable: str) -> None:
        """Directories as arguments (a driver may have to rename them), addresses as a variable:
        an argument can be read in the machine's process list, and an address may hold a password.
        """
        remote = []
        for place in places:
            parts = urlsplit(place)
            if parts.scheme in ("http", "https"):
                remote.append(place)
                self._allow(place, parts)
            else:
                self._mount(unquote(parts.path) if parts.scheme == "file" else place, option)
        if remote:
            self._variables[variable] = " ".join(remote)
        elif option == "--index-url" and option not in self._arguments:
            # An operator's directory that is not there must not lead to the public index instead.
            self._arguments += [option, f"{_INSIDE}/absent"]

    def _allow(self, place: str, parts: SplitResult) -> None:
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        # The operator chose the index, and the operator's DNS says where it is: a mirror under
        # the public index's own name is common behind firewalls. No tenant has a say in it.
        self.destinations.add(Destination(host, port, private=True))
        userinfo = parts.netloc.rpartition("@")[0]
        if userinfo:
            secret = parts.password or parts.username or ""
            self._secrets |= {userinfo, unquote(userinfo), secret, unquote(secret)} - {""}

    def _mount(self, place: str, option: str) -> None:
        path = Path(place).expanduser().absolute()
        if not path.exists():
            self._notes.append(f"{option} {place} does not exist here")
            return
        # A file lists what lies around it; an index in `simple` links to what lies beside it.
        shown = path if path.is_dir() else path.parent
        if option != "--find-links" and shown.name == "simple":
            shown = shown.parent
        if shown == Path("/"):
            self._notes.append(f"{option} {place} is left out: it would show the whole machine")
            return
        inside = f"{_INSIDE}/{len(self._mounts)}"
        self._mounts.append(Mount(str(shown), inside))
        self._arguments += [option, str(Path(inside) / path.relative_to(shown))]


_ANY_PROXY = {"http_proxy", "https_proxy", "all_proxy"}
