"""Where the key-encryption keys of the envelope sealer come from."""

import base64
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring, add_version
from freehold.kernel.errors import PlatformFailed

KEY = base64.b64encode(bytes(range(32))).decode()


def test_the_file_is_made_private_on_first_use_and_read_after(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys"
    first = Keyring.from_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    sealed = EnvelopeSealer(first).seal(b"x", context="c")
    assert EnvelopeSealer(Keyring.from_file(path)).open(sealed, context="c") == b"x"
    assert [entry.name for entry in path.parent.iterdir()] == ["keys"]


def test_all_who_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with ThreadPoolExecutor(8) as pool:
        keyrings = list(pool.map(lambda _: Keyring.from_file(path), range(16)))
    assert len({keyring.key(1) for keyring in keyrings}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys"
    Keyring.from_file(path)
    path.chmod(mode)
    with pytest.raises(PlatformFailed, match="open to others"):
        Keyring.from_file(path)


def test_a_key_can_be_added_and_the_old_one_removed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    sealed = EnvelopeSealer(Keyring.from_file(path)).seal(b"x", context="c")
    assert add_version(path) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    both = Keyring.from_file(path)
    assert (both.versions, both.newest) == ({1, 2}, 2)
    rewrapped = EnvelopeSealer(both).rewrap(sealed)
    path.write_text(path.read_text().splitlines()[1])
    assert EnvelopeSealer(Keyring.from_file(path)).open(rewrapped, context="c") == b"x"


def test_keys_can_come_from_the_environment() -> None:
    keyring = Keyring.parse(f"7:{KEY}\n\n3:{KEY}\n", source="FREEHOLD_KEYS")
    assert (keyring.versions, keyring.newest) == ({3, 7}, 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        KEY,
        f"one:{KEY}",
        f"0:{KEY}",
        f"-1:{KEY}",
        f"4294967296:{KEY}",
        f"1:{KEY[:-8]}",
        f"1:{KEY}AAAA",
        "1:not base64!",
        f"1:{KEY}\n1:{KEY}",
    ],
)
def test_a_malformed_text_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(PlatformFailed) as caught:
        Keyring.parse(text, source="FREEHOLD_KEYS")
    assert KEY[:20] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_are_never_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Keyring({1: bytes(32)}))
