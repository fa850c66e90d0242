"""The small /etc that a sandbox sees instead of the host's."""

import hashlib
import shutil
import tempfile
from pathlib import Path

_WRITTEN = {
    "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\n"
    "agent:x:1000:1000:agent:/home/agent:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
    # IPv4 alone: "localhost" is then the address that the platform connects to.
    "hosts": "127.0.0.1 localhost sandbox\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n",
    "resolv.conf": "",
    "host.conf": "multi on\n",
}
# What programs under /usr expect to find, none of it secret: loader cache, certificates that
# everybody may read, alternatives' links, time zone. Never /etc/ssl/private.
_COPIED = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "pki/ca-trust/extracted",
    "crypto-policies",
    "localtime",
    "mime.types",
    "protocols",
    "services",
)


def prepared(directory: Path, source: Path = Path("/etc")) -> Path:
    """A folder for /etc, made once per state of the host's. Never changed while it is mounted."""
    finished = directory / f"etc-{_fingerprint(source)}"
    if finished.is_dir():
        return finished
    directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    fresh = Path(tempfile.mkdtemp(dir=directory, prefix="etc-new-"))
    for name, text in _WRITTEN.items():
        (fresh / name).write_text(text)
    for name in _COPIED:
        _copy(source / name, fresh / name)
    fresh.chmod(0o755)
    try:
        fresh.rename(finished)
    except OSError:  # another process of ours was faster
        shutil.rmtree(fresh)
    return finished


def _fingerprint(source: Path) -> str:
    seen = hashlib.sha256(repr(_WRITTEN).encode())
    for name in _COPIED:
        path = source / name
        if path.exists():
            status = path.stat()
            seen.update(f"{name} {status.st_mtime_ns} {status.st_size}".encode())
    return seen.hexdigest()[:12]


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=_unreadable_to_others)
    else:
        shutil.copy(source, target)  # through a link: localtime points into /usr/share


def _unreadable_to_others(folder: str, names: list[str]) -> list[str]:
    def closed(name: str) -> bool:
        path = Path(folder, name)
        return not path.is_symlink() and not path.stat().st_mode & 0o004

    return [name for name in names if closed(name)]
