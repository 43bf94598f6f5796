"""What Linux means by an error, and what a server should do about it: the hints of the explanations."""

from simkernel.testing.explain.calls import Call

_SENDS = ("send", "sendto", "sendmsg", "write", "writev", "sendfile", "splice")
_RECVS = ("recv", "recvfrom", "recvmsg", "read", "readv")

# (calls, errors, hint): the first that fits counts.
_HINTS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (
        _SENDS,
        ("EPIPE",),
        "the client has closed: that ends this connection, not the server (MSG_NOSIGNAL or SIG_IGN against SIGPIPE)",
    ),
    (
        (*_SENDS, *_RECVS),
        ("ECONNRESET", "ETIMEDOUT"),
        "a client may go at any moment: close this connection and serve the others",
    ),
    (_SENDS, ("EAGAIN",), "the send buffer is full, as it may be at any time: keep what is left and wait for EPOLLOUT"),
    (_RECVS, ("EAGAIN",), "an event is a hint, not a promise: on EAGAIN go back to waiting, with the fd armed"),
    (("accept4",), ("EAGAIN",), "another has taken the connection, or its client has gone: on EAGAIN go back to waiting"),
    (("accept4",), ("ECONNABORTED", "EPROTO"), "that client has gone before it was accepted (accept(2)): take the next one"),
    (
        ("accept4", "socket", "dup", "pipe2", "eventfd", "epoll_create1", "open"),
        ("EMFILE", "ENFILE"),
        "no fd is left: what waits stays there; stop watching the listener until an fd is free",
    ),
    (
        ("epoll_ctl",),
        ("ENOENT",),
        "the fd is not registered with this epoll: closing it has removed it, or it never was added",
    ),
    (("epoll_ctl",), ("EEXIST",), "the fd is registered already: the number was used before, or EPOLL_CTL_MOD was meant"),
    (
        ("epoll_ctl",),
        ("EPERM",),
        "a regular file or directory can't be watched (epoll_ctl(2)): it is always ready, so read it",
    ),
    ((), ("EBADF",), "the number is closed: who closed it must take it out of every table"),
    ((), ("EINTR",), "a signal's handler has run: call again, SA_RESTART does not help the calls that wait (signal(7))"),
    (("bind",), ("EADDRINUSE",), "the address is still taken: by a socket of before (SO_REUSEADDR), or by a path that nobody has unlinked"),
    (("connect",), ("ECONNREFUSED",), "nobody listens there: the end of this connection, not of the server"),
    ((), ("ENOBUFS", "ENOMEM", "ENOSPC"), "memory is short for now: it is this call that failed, not the server"),
)

SIGPIPE_HINT = "writing to a connection whose peer has closed raises SIGPIPE, whose default ends the process: MSG_NOSIGNAL, or SIG_IGN"


def hint(call: Call) -> str | None:
    """What to do about a call that failed, or None."""
    for names, errors, text in _HINTS:
        if call.error in errors and (not names or call.name in names):
            return text
    return None
