"""Archives that the kernel unpacks into its first file system ("newc" format of cpio)."""

import stat

_ALIGNED = 4
_TRAILER = "TRAILER!!!"


class Archive:
    """In memory; folders are added by themselves. Everything belongs to root, and has no time."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._folders: set[str] = set()
        self._inode = 0

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._folder_of(path)
        self._entry(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        self._folder_of(path)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def folder(self, path: str) -> None:
        if path and path not in self._folders:
            self._folder_of(path)
            self._folders.add(path)
            self._entry(path, stat.S_IFDIR | 0o755, b"")

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self._folder_of(path)
        self._entry(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def finished(self) -> bytes:
        self._entry(_TRAILER, 0, b"")
        return bytes(self._content)

    def _folder_of(self, path: str) -> None:
        self.folder(path.rpartition("/")[0])

    def _entry(
        self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)
    ) -> None:
        assert not path.startswith("/"), path
        self._inode += 1
        name = path.encode() + b"\0"
        links, uid, gid, time, checksum = 1, 0, 0, 0, 0
        fields = (
            *(self._inode, mode, uid, gid, links, time, len(content)),
            *(0, 0, *device, len(name), checksum),
        )
        self._content += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self._pad()
        self._content += content
        self._pad()

    def _pad(self) -> None:
        self._content += bytes(-len(self._content) % _ALIGNED)
