"""Messages between the front and a searcher, over a pair of SOCK_SEQPACKET sockets.

A message is one packet: a fixed header, then the payload. A payload that does not fit a socket's buffer travels as a
memfd whose descriptor goes along (SCM_RIGHTS), so a batch of 64 MB costs one copy and never fills the queue. The
kernel keeps packets whole and hands each to one of the threads that wait; end-of-file is a packet of no bytes, which
no message is, because of the header.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

# identity of the request, kind, payload is in a memfd, three numbers whose meaning depends on the kind, payload size
_HEADER = struct.Struct("<QHHIIIQ")
_INLINE_LIMIT = 64 * 1024
_ANCILLARY = socket.CMSG_SPACE(struct.calcsize("i"))

Buffer = bytes | bytearray | memoryview | mmap.mmap


class Kind(IntEnum):
    """Requests of the front, and a searcher's answers.

    ``LOAD``: a pickled ViewSpec → ``OK``. ``OPEN``: pickled segments → ``OK``, once a change that adds them is quick.
    ``FORGET``: pickled generations that were opened in vain → ``OK``.
    ``APPLY``: a pickled ViewChange → ``OK``, once every later search sees it. ``SEARCH``: ``a`` rows of dim float32,
    ``b`` = k, ``c`` = ef (0: an exact scan) → ``OK`` with ``a`` rows of ``b`` ≤ k labels (u64), nearest first, then as
    many distances (float32). ``FETCH``: labels (u64) → ``OK`` with ``a`` bytes that say which there are, then as many
    rows of dim float32, as stored. Instead of ``OK``: ``INVALID`` (the request is wrong) or ``FAILED`` (the searcher
    cannot do it), with a message as UTF-8.
    """

    OK = 0
    INVALID = 1
    FAILED = 2
    LOAD = 3
    OPEN = 4
    APPLY = 5
    SEARCH = 6
    FETCH = 7
    FORGET = 8


class Message(NamedTuple):
    id: int
    kind: Kind
    a: int = 0
    b: int = 0
    c: int = 0
    payload: Buffer = b""


def send(sock: socket.socket, message: Message) -> None:
    """Send one message. Raises BlockingIOError when the queue of a non-blocking socket is full, and BrokenPipeError or
    ConnectionResetError when nobody is left to read it."""
    size = len(message.payload)
    inline = size <= _INLINE_LIMIT
    header = _HEADER.pack(message.id, message.kind, not inline, message.a, message.b, message.c, size)
    if inline:
        sock.sendmsg([header, message.payload])
        return
    descriptor = os.memfd_create("vectorindex-message", os.MFD_CLOEXEC)
    try:
        with memoryview(message.payload) as rest:
            written = 0
            while written < size:
                written += os.write(descriptor, rest[written:])
        sock.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
    finally:
        os.close(descriptor)


def receive(sock: socket.socket) -> Message | None:
    """The next message, or None at end-of-file. Raises BlockingIOError when a non-blocking socket holds none."""
    packet, ancillary, _, _ = sock.recvmsg(_HEADER.size + _INLINE_LIMIT, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    if not packet:
        return None
    identity, kind, in_memfd, a, b, c, size = _HEADER.unpack_from(packet)
    payload: Buffer
    if in_memfd:
        (_, _, data) = ancillary[0]
        descriptor = array.array("i", data)[0]
        try:
            payload = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    else:
        payload = memoryview(packet)[_HEADER.size :]
    return Message(identity, Kind(kind), a, b, c, payload)
