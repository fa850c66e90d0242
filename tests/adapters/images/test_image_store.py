"""Images had from registries and layouts: whole, checked, once; or refused with a reason."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.images import ImageLimits, ImageStore
from freehold.adapters.images.reach import Reach
from freehold.ports.images import Image, ImageRefused
from image_parts import Made, directory, file, layer, symlink
from registry_doubles import PROGRAM, FakeRegistry, login, push, real_registry

MakeStore = Callable[..., ImageStore]

LAYERS = (
    layer(directory("bin"), file("bin/agent", os.urandom(5000), 0o755), file("old", "old")),
    layer(file(".wh.old"), file("new", "new")),
)


@pytest.fixture
def store(tmp_path: Path) -> MakeStore:
    """Takes layouts below tmp_path/layouts. `insecure` are registries by plain http."""

    def make(*insecure: str, limits: ImageLimits | None = None, **more: Any) -> ImageStore:
        return ImageStore(
            tmp_path / "images",
            reach=Reach(denied=denied, forbidden=forbidden, insecure=frozenset(insecure)),
            layout_directories=(tmp_path / "layouts",),
            limits=limits,
            **more,
        )

    return make


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(Made(LAYERS)).serving() as serving:
        yield serving


async def fetched(store: ImageStore, uri: str, notes: list[str] | None = None) -> Image:
    async with asyncio.timeout(30):
        return await store.fetch(uri, note=notes.append if notes is not None else lambda _: None)


async def refused(store: ImageStore, uri: str) -> str:
    with pytest.raises(ImageRefused) as raised:
        await fetched(store, uri)
    top = store._directory
    left = [path.name for path in top.iterdir() if path.name != "tmp"] if top.exists() else []
    assert left == [], "something of it was published"
    return str(raised.value)


def files(image: Image) -> list[str]:
    root = image.folder / "closed" / "rootfs"
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != "etc"
    )


# -- from a registry


@pytest.mark.skipif(PROGRAM is None, reason="no docker-registry: apt-get install docker-registry")
@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
async def test_an_image_of_a_real_registry_is_unpacked(
    store: MakeStore, tmp_path: Path, compression: str
) -> None:
    made = Made(LAYERS, compression=compression, index=True, run={"WorkingDir": "srv/new"})
    async with real_registry(tmp_path) as host:
        await push(host, "team/agent", "1", made)
        notes: list[str] = []
        image = await fetched(store(host), f"{host}/team/agent:1", notes)
        again = await fetched(store(host), f"{host}/team/agent@{made.root}", notes)
        missing = await refused_by(store(host), f"{host}/team/agent:2")
    assert files(image) == ["bin/agent", "new"]
    assert image.config.digest == made.digest
    assert (image.config.command, image.config.workdir) == (("/bin/agent",), "/srv/new")
    assert (image.folder / "closed/rootfs/srv/new").is_dir()
    assert again == image
    assert "it was unpacked before" in notes
    assert "no such image" in missing


async def refused_by(store: ImageStore, uri: str) -> str:
    with pytest.raises(ImageRefused) as raised:
        await fetched(store, uri)
    return str(raised.value)


@pytest.mark.parametrize("kind", ["bearer", "basic"])
async def test_a_registry_that_wants_a_login_gets_the_operators(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path, kind: str
) -> None:
    registry.login = kind
    file_ = login(tmp_path, registry.host)
    image = await fetched(store(registry.host, credentials_file=file_), registry.uri())
    assert files(image) == ["bin/agent", "new"]
    assert registry.asked["token"] == (1 if kind == "bearer" else 0)


@pytest.mark.parametrize("kind", ["bearer", "basic"])
async def test_without_a_login_or_with_a_wrong_one_it_is_refused_without_telling_it(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path, kind: str
) -> None:
    registry.login = kind
    await refused(store(registry.host), registry.uri())
    wrong = login(tmp_path, registry.host, "wrong-password")
    why = await refused(store(registry.host, credentials_file=wrong), registry.uri())
    assert "wrong-password" not in why


async def test_credentials_stay_with_their_registry(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with FakeRegistry(registry.made).serving() as elsewhere:
        registry.login, registry.redirect = "basic", f"http://{elsewhere.host}"
        file_ = login(tmp_path, registry.host)
        both = store(registry.host, elsewhere.host, credentials_file=file_)
        assert files(await fetched(both, registry.uri())) == ["bin/agent", "new"]
        assert set(elsewhere.authorizations) == {""}


async def test_whom_a_registry_sends_us_on_to_cannot_ask_for_its_credentials(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with FakeRegistry(registry.made).serving() as elsewhere:
        registry.login, registry.redirect = "basic", f"http://{elsewhere.host}"
        elsewhere.login = "bearer"
        file_ = login(tmp_path, registry.host)
        both = store(registry.host, elsewhere.host, credentials_file=file_)
        await refused(both, registry.uri())
        assert set(elsewhere.authorizations) == {""}


async def test_what_was_cut_off_is_gone_on_with(store: MakeStore, registry: FakeRegistry) -> None:
    registry.cut_off, registry.failures = 2, 1
    image = await fetched(store(registry.host), registry.uri())
    assert files(image) == ["bin/agent", "new"]
    assert "bytes=100-" in registry.ranges


async def test_a_registry_that_stays_broken_is_given_up(
    store: MakeStore, registry: FakeRegistry
) -> None:
    registry.failures = 1000
    assert "HTTP 503" in await refused(store(registry.host), registry.uri())
    assert registry.failures >= 990


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
async def test_something_else_than_the_digest_says_is_refused(
    store: MakeStore, registry: FakeRegistry, which: str
) -> None:
    made = registry.made
    digest = {
        "manifest": made.digest,
        "config": made.manifest["config"]["digest"],
        "layer": made.manifest["layers"][1]["digest"],
    }[which]
    honest = made.blobs[digest]
    registry.lies[digest] = honest[:-1] + bytes([honest[-1] ^ 1])
    uri = registry.uri().replace(":1", f"@{made.digest}")
    uri = f"{registry.host}/team/agent@{made.digest}"
    assert "something else" in await refused(store(registry.host), uri)


async def test_more_than_was_said_is_not_read(store: MakeStore, registry: FakeRegistry) -> None:
    digest = registry.made.manifest["layers"][0]["digest"]
    registry.lies[digest] = registry.made.blobs[digest] + bytes(10 << 20)
    assert "more than it said" in await refused(store(registry.host), registry.uri())


# -- what may be reached


async def test_this_machine_is_reached_only_where_the_operator_says_so(
    store: MakeStore, registry: FakeRegistry
) -> None:
    port = registry.host.partition(":")[2]
    for host in (registry.host, f"localhost:{port}", f"127.1:{port}", f"2130706433:{port}"):
        why = await refused(store(), f"{host}/team/agent:1")
        assert "private network" in why or "neither a name nor an address" in why
    assert not registry.asked


async def test_no_redirect_and_no_realm_leads_to_where_the_operator_did_not_say(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    async with FakeRegistry(registry.made).serving() as internal:
        registry.redirect = f"http://{internal.host}"
        assert "https" in await refused(store(registry.host), registry.uri())
        registry.redirect = f"https://{internal.host}"
        assert "private network" in await refused(store(registry.host), registry.uri())
        registry.redirect, registry.login = None, "bearer"
        registry.realm = f"http://{internal.host}/token"
        known = store(registry.host, credentials_file=login(tmp_path, registry.host))
        assert "https" in await refused(known, registry.uri())
        assert not internal.asked
        assert not internal.authorizations


@pytest.mark.parametrize("location", ["http://[::1", "https://a:99999/", "data:x"])
async def test_a_redirect_or_a_realm_that_is_no_address_is_refused(
    store: MakeStore, registry: FakeRegistry, location: str
) -> None:
    registry.location = location
    assert "address" in await refused(store(registry.host), registry.uri())
    registry.location, registry.login, registry.realm = None, "bearer", location
    assert "address" in await refused(store(registry.host), registry.uri())


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:a9fe:a9fe]", "168.63.129.16"]
)
async def test_metadata_is_never_reached_whatever_is_listed(store: MakeStore, host: str) -> None:
    assert "never reached" in await refused(store(host), f"{host}/team/agent:1")


# -- from a layout


async def test_a_layout_is_found_by_tag_by_digest_or_as_the_only_one(
    store: MakeStore, tmp_path: Path
) -> None:
    made = Made(LAYERS, index=True)
    folder = made.layout(tmp_path / "layouts" / "agent", tag="1.0")
    for mark in (":1.0", "", f"@{made.digest}"):
        image = await fetched(store(), f"oci:{folder}{mark}")
        assert (files(image), image.config.digest) == (["bin/agent", "new"], made.digest)
    assert "it has 1.0" in await refused_by(store(), f"oci:{folder}:2")


async def test_a_layout_elsewhere_is_not_even_looked_at(store: MakeStore, tmp_path: Path) -> None:
    outside = Made(LAYERS).layout(tmp_path / "outside")
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "link").symlink_to(outside)
    layouts = tmp_path / "layouts"
    said = {
        re.sub(r"^\S+", "", await refused(store(), f"oci:{path}"))
        for path in (
            outside,
            layouts / "link",
            f"{layouts}/../outside",
            "/etc",
            "/nowhere",
            layouts / ("long" * 100),
        )
    }
    assert len(said) == 1, "the answer tells what is there"


async def test_a_link_in_a_layout_leads_nowhere(store: MakeStore, tmp_path: Path) -> None:
    made = Made(LAYERS)
    folder = made.layout(tmp_path / "layouts" / "agent")
    blob = folder / "blobs" / made.manifest["layers"][0]["digest"].replace(":", "/")
    blob.rename(tmp_path / "moved")
    blob.symlink_to(tmp_path / "moved")
    assert "has no" in await refused(store(), f"oci:{folder}:1")


# -- what it is


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"layers": [{"mediaType": "application/x", "digest": "sha256:x", "size": 1}]}, "digest"),
        ({"config": None}, "neither an image manifest"),
        ({"schemaVersion": 1, "config": None, "layers": None}, "schema 1"),
        ({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
                     "digest": "sha256:" + "0" * 64, "size": 1}}, "no container image"),
    ],
)  # fmt: skip
async def test_what_is_no_image_is_refused(
    store: MakeStore, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    made = Made(LAYERS)
    changed = {**made.manifest, **change}
    made.root = made._add(json.dumps(changed).encode(), "x")["digest"]
    folder = made.layout(tmp_path / "layouts" / "agent")
    assert why in await refused(store(), f"oci:{folder}:1")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"architecture": "s390x"}, "it is for linux/s390x"),
        ({"architecture": "s390x", "index": True}, "there is linux/riscv64, linux/s390x"),
        ({"diff_ids": ["sha256:" + "0" * 64] * 2}, "configuration says"),
        ({"diff_ids": []}, "number of layers"),
        ({"run": {"Cmd": None}}, "nothing says what to run"),
        ({"run": {"WorkingDir": "/a/../../b"}}, "no plain path"),
    ],
)
async def test_an_image_that_cannot_be_run_here_says_why(
    store: MakeStore, tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    folder = Made(LAYERS, **options).layout(tmp_path / "layouts" / "agent")
    assert why in await refused(store(), f"oci:{folder}:1")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_a_bomb_is_refused_long_before_it_is_unpacked(
    store: MakeStore, tmp_path: Path, compression: str
) -> None:
    bomb = layer(file("zeros", bytes(64 << 20)))
    folder = Made([bomb], compression=compression).layout(tmp_path / "layouts" / "bomb")
    small = store(limits=ImageLimits(unpacked_bytes_max=8 << 20))
    assert "more than 8 MiB" in await refused(small, f"oci:{folder}:1")
    few = store(limits=ImageLimits(compressed_bytes_max=1000))
    folder = Made(LAYERS).layout(tmp_path / "layouts" / "large")
    assert "of layers" in await refused(few, f"oci:{folder}:1")


async def test_links_where_the_platform_mounts_do_not_stay(
    store: MakeStore, tmp_path: Path
) -> None:
    links = ("proc", "dev", "tmp", "run", "home", "etc/resolv.conf", "etc/hosts", "etc/passwd")
    victim = tmp_path / "victim"
    victim.mkdir()
    entries = [symlink(name, str(victim / "x")) for name in links]
    folder = Made([layer(directory("etc"), *entries)]).layout(tmp_path / "layouts" / "a")
    image = await fetched(store(), f"oci:{folder}:1")
    root = image.folder / "closed" / "rootfs"
    assert not [name for name in links if (root / name).is_symlink()]
    assert list(victim.iterdir()) == []


# -- once


async def test_four_at_once_unpack_it_once(store: MakeStore, registry: FakeRegistry) -> None:
    one = store(registry.host)
    images = await asyncio.gather(*(fetched(one, registry.uri()) for _ in range(4)))
    assert len({image.folder for image in images}) == 1
    layers = [each["digest"] for each in registry.made.manifest["layers"]]
    assert [registry.asked[digest] for digest in layers] == [1, 1]


async def test_two_processes_at_once_end_with_one(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    stores = [store(registry.host) for _ in range(3)]
    images = await asyncio.gather(*(fetched(each, registry.uri()) for each in stores))
    assert len({image.folder for image in images}) == 1
    assert list((tmp_path / "images" / "tmp").iterdir()) == []


async def test_what_a_killed_process_left_is_swept(
    store: MakeStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    left = tmp_path / "images" / "tmp" / "left"
    (left / "image").mkdir(parents=True)
    await fetched(store(registry.host), registry.uri())
    assert not left.exists()


async def test_nobody_but_us_may_enter_the_files(store: MakeStore, registry: FakeRegistry) -> None:
    image = await fetched(store(registry.host), registry.uri())
    assert (image.folder / "closed").stat().st_mode & 0o777 == 0o700
