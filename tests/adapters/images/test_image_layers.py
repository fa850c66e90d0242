"""Layers put on one another: what a container would see, and nothing outside touched."""

import hashlib
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.adapters.images.layers import Layers
from freehold.ports.images import ImageRefused
from image_parts import Entry, device, directory, file, hardlink, layer, symlink

Apply = Callable[..., Path]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host's, with a file, that no image may touch or see."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    def apply(*layers: bytes, bytes_max: int = 1 << 20, entries_max: int = 1000) -> Path:
        root = tmp_path / "rootfs"
        root.mkdir()
        made = Layers(root, bytes_max=bytes_max, entries_max=entries_max)
        for content in layers:
            (tmp_path / "blob").write_bytes(content)
            made.apply(tmp_path / "blob", None)
        return root

    return apply


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def untouched(outside: Path) -> bool:
    return names(outside) == ["precious"] and (outside / "precious").read_text() == "precious"


# -- what they mean


def test_a_later_layer_replaces_files_and_keeps_directories(apply: Apply) -> None:
    root = apply(
        layer(directory("etc"), file("etc/name", "old"), file("etc/kept", "kept"), file("was", "")),
        layer(directory("etc"), file("etc/name", "new"), directory("was"), file("was/now", "")),
    )
    assert (root / "etc/name").read_text() == "new"
    assert names(root) == ["etc", "etc/kept", "etc/name", "was", "was/now"]


def test_a_whiteout_hides_what_lower_layers_have_and_not_its_own(apply: Apply) -> None:
    root = apply(
        layer(file("a/old"), file("a/b/deep"), file("gone/x"), file("stays")),
        layer(file("a/new"), file("a/.wh.new"), file("a/.wh.old"), file(".wh.gone")),
    )
    assert names(root) == ["a", "a/b", "a/b/deep", "a/new", "stays"]


@pytest.mark.parametrize("opaque_first", [True, False])
def test_an_opaque_directory_has_only_its_own_layers_files(
    apply: Apply, opaque_first: bool
) -> None:
    mark, own = file("a/.wh..wh..opq"), file("a/b/new")
    entries = (mark, own) if opaque_first else (own, mark)
    root = apply(layer(file("a/old"), file("a/b/old")), layer(*entries))
    assert names(root) == ["a", "a/b", "a/b/new"]


def test_entries_below_a_link_of_the_image_land_where_it_leads(apply: Apply) -> None:
    """As where /bin is a link to usr/bin, and a layer says bin/tool."""
    root = apply(
        layer(directory("usr/bin"), symlink("bin", "usr/bin"), symlink("sbin", "/usr/bin")),
        layer(file("bin/tool", "t"), file("sbin/other", "o")),
    )
    assert (root / "usr/bin/tool").read_text() == "t"
    assert (root / "usr/bin/other").read_text() == "o"
    assert (root / "bin").is_symlink()


def test_a_hard_link_is_the_same_file(apply: Apply) -> None:
    root = apply(layer(file("a", "text"), hardlink("b/c", "a"), hardlink("/d", "/b/c")))
    assert len({(root / name).stat().st_ino for name in ("a", "b/c", "d")}) == 1


def test_modes_give_the_sandboxs_user_what_the_owner_had_and_no_more(apply: Apply) -> None:
    root = apply(
        layer(
            file("program", "", 0o6755), file("data", "", 0o600), file("readonly", "", 0o400),
            directory("closed", 0o1000), file("closed/x"),
        )
    )  # fmt: skip

    def mode(name: str) -> int:
        return stat.S_IMODE((root / name).stat().st_mode)

    assert mode("program") == 0o757
    assert mode("data") == 0o606
    assert mode("readonly") == 0o404
    assert mode("closed") == 0o707


def test_times_are_kept_for_pythons_bytecode(apply: Apply) -> None:
    root = apply(layer(file("module.py", "x = 1", mtime=1_700_000_000)))
    assert (root / "module.py").stat().st_mtime == 1_700_000_000


def test_devices_are_left_out(apply: Apply, tmp_path: Path) -> None:
    assert names(apply(layer(device("disk"), file("x")))) == ["x"]


# -- what they may not do


@pytest.mark.parametrize(
    "entry",
    [
        file("../outside/x", "x"),
        file("a/../../outside/x", "x"),
        directory("../outside/new"),
        symlink("../outside/link", "x"),
        file("../outside/.wh.precious"),
        file(".wh..."),
        file("a/.wh.."),
        hardlink("stolen", "../outside/precious"),
        hardlink("stolen", "/nowhere"),
    ],
    ids=lambda entry: f"{entry[0].name}>{entry[0].linkname}",
)
def test_a_path_that_leads_out_is_refused(apply: Apply, outside: Path, entry: Entry) -> None:
    with pytest.raises(ImageRefused):
        apply(layer(file("a/b"), entry))
    assert untouched(outside)


@pytest.mark.parametrize("target", ["{outside}", "../outside", "../../../..{outside}"])
@pytest.mark.parametrize(
    "through",
    [
        file("link/precious", "overwritten"),
        file("link/new", "new"),
        directory("link/new"),
        symlink("link/new", "x"),
        file("link/.wh.precious"),
        file("link/.wh..wh..opq"),
        hardlink("stolen", "link/precious"),
    ],
    ids=lambda entry: entry[0].name,
)
def test_a_link_that_leads_out_leads_nowhere(
    apply: Apply, outside: Path, target: str, through: Entry
) -> None:
    try:
        root = apply(layer(symlink("link", target.format(outside=outside))), layer(through))
    except ImageRefused:
        root = None
    assert untouched(outside)
    assert root is None or not (root / "stolen").exists()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
    apply: Apply, outside: Path
) -> None:
    precious = str(outside / "precious")
    root = apply(layer(symlink("a", precious)), layer(file("a", "mine")))
    assert (root / "a").read_text() == "mine"
    assert not (root / "a").is_symlink()
    assert untouched(outside)


def test_a_hard_link_to_a_link_is_the_link(apply: Apply, outside: Path) -> None:
    precious = outside / "precious"
    apply(layer(symlink("a", str(precious)), hardlink("b", "a")), layer(file("b", "mine")))
    assert precious.stat().st_nlink == 1
    assert untouched(outside)


def test_a_directory_that_was_a_link_no_longer_leads_anywhere(apply: Apply, outside: Path) -> None:
    root = apply(layer(symlink("a", str(outside)), directory("a"), file("a/precious", "mine")))
    assert (root / "a/precious").read_text() == "mine"
    assert untouched(outside)


def test_links_in_a_circle_are_refused(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="circles"):
        apply(layer(symlink("a", "b"), symlink("b", "a"), file("a/x")))


def test_something_below_a_file_is_refused(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="no directory"):
        apply(layer(file("a"), file("a/b")))


# -- bombs and damage


def test_too_many_bytes_are_refused_whatever_their_form(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="more than 1 MiB"):
        apply(layer(file("zeros", bytes(2 << 20))))


def test_too_many_entries_are_refused(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="more than 10 files"):
        apply(layer(*(file(f"f{number}") for number in range(11))), entries_max=10)


def test_a_header_of_gigabytes_is_refused_unread(apply: Apply) -> None:
    entry = tarfile.TarInfo("././@PaxHeader")
    entry.type, entry.size = tarfile.XHDTYPE, 4 << 30
    with pytest.raises(ImageRefused, match="header"):
        apply(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024), bytes_max=8 << 30)


def _extension(kind: bytes, body: bytes) -> bytes:
    entry = tarfile.TarInfo("extension")
    entry.type, entry.size = kind, len(body)
    return entry.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def test_many_headers_before_one_entry_count_together(apply: Apply) -> None:
    comment = b"400000 comment=" + b"x" * (400_000 - 16) + b"\n"
    with pytest.raises(ImageRefused, match="header"):
        apply(_extension(tarfile.XGLTYPE, comment) * 3 + layer(file("a")), bytes_max=8 << 20)


def test_headers_that_follow_one_another_forever_are_refused(apply: Apply) -> None:
    with pytest.raises(ImageRefused):
        apply(
            _extension(tarfile.XGLTYPE, b"10 a=bcde\n") * 900 + layer(file("a")), bytes_max=8 << 20
        )


def test_a_header_for_all_entries_is_not_heeded(apply: Apply) -> None:
    """It would be kept, and copied for each entry. Git writes one, with a comment."""
    content = layer(file("first")).rstrip(b"\0")
    content += bytes(-len(content) % 512) + _extension(tarfile.XGLTYPE, b"14 path=other\n")
    root = apply(content + layer(file("second"), file("third")))
    assert {"first", "third"} <= set(names(root))


def test_directories_too_deep_to_be_removed_again_are_refused(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="deep"):
        apply(layer(directory("/".join("a" * 1500))))


def test_a_link_does_not_lead_deeper_than_that(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="deep"):
        apply(
            layer(
                directory("/".join("a" * 200)),
                symlink("down", "/".join("a" * 200)),
                directory("down/" + "/".join("b" * 200)),
            )
        )


def test_paths_that_would_fill_the_memory_are_refused(apply: Apply) -> None:
    long = "/".join("a" * 100 for _ in range(30))
    with pytest.raises(ImageRefused, match="long paths"):
        apply(layer(*(file(f"{long}/{number}") for number in range(5))), entries_max=10)


def test_unpacking_ends_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "blob").write_bytes(layer(file("a")))
    made = Layers(tmp_path / "rootfs", bytes_max=1 << 20, entries_max=10)
    made.stop()
    with pytest.raises(ImageRefused):
        made.apply(tmp_path / "blob", None)


def test_a_file_that_is_cut_off_is_refused(apply: Apply) -> None:
    with pytest.raises(ImageRefused):
        apply(layer(file("a", b"x" * 5000))[:2048])


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, b"\x1f\x8bgarbage" * 100])
def test_what_is_no_archive_is_refused(apply: Apply, content: bytes) -> None:
    with pytest.raises(ImageRefused):
        apply(content)


def test_a_sparse_file_takes_no_more_than_it_has(apply: Apply) -> None:
    """GNU's sparse files can claim any size; no image builder writes them."""
    entry = tarfile.TarInfo("sparse")
    entry.type, entry.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # its real size: 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    root = apply(bytes(header) + bytes(1024))
    assert names(root) == []


def test_nothing_is_executed_or_opened_that_could_block(apply: Apply) -> None:
    fifo = tarfile.TarInfo("fifo")
    fifo.type = tarfile.FIFOTYPE
    root = apply(layer((fifo, b""), file("fifo", "plain")))
    assert (root / "fifo").read_text() == "plain"


def test_a_name_that_is_too_long_is_refused_with_a_reason(apply: Apply) -> None:
    with pytest.raises(ImageRefused, match="too long"):
        apply(layer(file("x" * 300)))


def test_padding_behind_the_archive_belongs_to_its_digest(tmp_path: Path) -> None:
    content = layer(file("a", "1")) + bytes(4096)
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "blob").write_bytes(content)
    made = Layers(tmp_path / "rootfs", bytes_max=1 << 20, entries_max=10)
    made.apply(tmp_path / "blob", f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert names(tmp_path / "rootfs") == ["a"]
