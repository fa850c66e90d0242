"""Opens sockets inside other network namespaces: run as a program of its own, by `opener.py`.

It stays small and single-threaded, since a process with threads may not enter a user namespace.
Each request carries two descriptors, the network namespace and the end to answer on. As root it
steps into the namespace and back; anybody else enters the user namespace that owns it, which
cannot be left, in a fork. Standard library only.
"""

import os
import socket
import struct
import sys

REQUEST = struct.Struct("!cHH")  # kind, port, count
STREAM, LISTENER = b"S", b"L"

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701
_IP_FREEBIND = 15
_BACKLOG = 256


def _setns(fd: int, kind: int) -> None:
    if sys.version_info >= (3, 12):
        os.setns(fd, kind)
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, kind):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _open(kind: bytes, port: int, count: int) -> list[socket.socket]:
    if kind == STREAM:
        return [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The namespace may be so young that its loopback has no address yet.
    listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(_BACKLOG)
    return [listener]


def _answer(reply: socket.socket, kind: bytes, port: int, count: int) -> None:
    try:
        opened = _open(kind, port, count)
    except OSError as error:
        reply.send(struct.pack("!i", error.errno or 1))
        return
    socket.send_fds(reply, [struct.pack("!i", 0)], [each.fileno() for each in opened])
    for each in opened:
        each.close()


def _answer_in_fork(netns: int, reply: socket.socket, kind: bytes, port: int, count: int) -> None:
    import fcntl

    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        _setns(fcntl.ioctl(netns, _NS_GET_USERNS), _NEW_USER)
        _setns(netns, _NEW_NET)
        _answer(reply, kind, port, count)
    except OSError as error:
        reply.send(struct.pack("!i", error.errno or 1))
    finally:
        os._exit(0)


def main(control: socket.socket) -> None:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    may_step_in = True
    while True:
        request, descriptors, _, _ = socket.recv_fds(
            control, REQUEST.size, 2, socket.MSG_CMSG_CLOEXEC
        )
        if not request:  # the driver has gone
            return
        netns, end = descriptors
        with socket.socket(fileno=end) as reply:
            if may_step_in:
                try:
                    _setns(netns, _NEW_NET)
                except PermissionError:
                    may_step_in = False
                else:
                    try:
                        _answer(reply, *REQUEST.unpack(request))
                    finally:
                        _setns(home, _NEW_NET)  # if this fails we die, and are started anew
            if not may_step_in:
                _answer_in_fork(netns, reply, *REQUEST.unpack(request))
        os.close(netns)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
