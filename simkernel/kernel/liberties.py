"""What the machine may do of its own accord: the liberties of each profile.

``linux``    what Linux on one machine does: who runs next, how a stream is cut, how much buffer there is, how late a timer is
``network``  the same, and a network between client and server: latency, loss, resets, partitions, a peer killed
``posix``    the same as linux, and everything that the man pages permit and Linux seldom does

Each liberty is one label of choice.pick.  LIBERTIES is the table of them, docs/liberties.md its text (``simkernel liberties``).
"""

from typing import Final

from simkernel.errors import UsageError

PROFILES: Final = ("linux", "network", "posix")


class Liberty:
    """One liberty: its ``label``, the ``profile`` that has it ("linux": all have), ``what`` may happen, and the ``source`` that says so."""

    __slots__ = ("label", "profile", "source", "what")

    def __init__(self, label: str, profile: str, what: str, source: str) -> None:
        self.label = label
        self.profile = profile
        self.what = what
        self.source = source


LIBERTIES: Final = (
    Liberty("sched", "linux", "When a task sleeps, any runnable task goes next.", "sched(7)"),
    Liberty("preempt", "linux", "Before each system call another runnable task may go first.", "sched(7), kernel/sched/core.c"),
    Liberty(
        "softirq-later", "linux", "What is sent is not received at once, but when the processor gets to it.", "kernel/softirq.c (ksoftirqd)"
    ),
    Liberty("softirq-now", "linux", "What was kept back is received before a system call.", "kernel/softirq.c"),
    Liberty(
        "softirq-stop", "linux", "Of what was kept back a part is received, the rest later.", "net/core/dev.c (net_rx_action's budget)"
    ),
    Liberty("segment", "linux", "A stream is cut anywhere: one byte, half, all but one, or all.", "tcp(7), RFC 9293 section 3.8"),
    Liberty("timer-slack", "linux", "A timeout is up to 150 us late, never early.", "nanosleep(2), PR_SET_TIMERSLACK of prctl(2), time(7)"),
    Liberty(
        "buffers",
        "linux",
        "Sockets have 4608, 16384 or 65536 bytes of buffer, or 131072 to receive and 4608 to send, or Linux's defaults.",
        "tcp_mem, tcp_rmem, tcp_wmem of tcp(7); sk_stream_moderate_sndbuf",
    ),
    Liberty("reuseport", "linux", "Which socket of a group of SO_REUSEPORT gets a connection or a datagram.", "SO_REUSEPORT of socket(7)"),
    Liberty("random", "linux", "What /dev/urandom gives.", "random(4)"),
    Liberty(
        "tick",
        "network, posix",
        "Time passes while tasks run: a timer that is due within 2 ms fires, a packet that comes within 2 ms arrives, before they go on.",
        "time(7), sched(7)",
    ),
    Liberty("jitter", "network", "A packet takes up to the link's jitter longer; datagrams overtake each other.", "tc-netem(8), udp(7)"),
    Liberty(
        "loss", "network", "A packet is lost: a datagram is gone, a segment of TCP comes a timeout later.", "udp(7), RFC 6298, tc-netem(8)"
    ),
    Liberty("duplicate", "network", "A datagram arrives twice.", "udp(7), tc-netem(8)"),
    Liberty("faults", "posix", "How many faults the run has, at most three.", "fault-injection.rst (times)"),
    Liberty(
        "fault-accept",
        "posix",
        "accept4 fails with ECONNABORTED, EPROTO, EMFILE, ENFILE, ENOBUFS or ENOMEM; who waits goes on waiting.",
        "accept(2), ERRORS",
    ),
    Liberty(
        "fault-make-fd",
        "posix",
        "A call that makes an fd fails with EMFILE or ENFILE, or a socket with ENOBUFS or ENOMEM, in a process that has accepted before.",
        "socket(2), open(2), dup(2), pipe(2), eventfd(2), timerfd_create(2), epoll_create(2), ERRORS",
    ),
    Liberty(
        "fault-fork",
        "posix",
        "A process can't be forked (EAGAIN, ENOMEM), or a thread made (EAGAIN).",
        "fork(2), pthread_create(3), ERRORS",
    ),
    Liberty("fault-epoll-ctl", "posix", "A connection can't be added to an epoll: ENOMEM or ENOSPC.", "epoll_ctl(2), ERRORS"),
    Liberty(
        "fault-send",
        "posix",
        "A non-blocking send takes less than fits, or nothing (EAGAIN) until memory is to be had, or fails with ENOBUFS or ENOMEM.",
        "send(2), ERRORS; net/ipv4/tcp.c (tcp_sendmsg_locked, wait_for_space)",
    ),
    Liberty(
        "fault-short-read",
        "posix",
        "A read from a stream gives fewer bytes than there are; not where epoll watches for edges, which may count on it.",
        "read(2), RETURN VALUE; epoll(7), questions",
    ),
    Liberty(
        "fault-spurious",
        "posix",
        "select, poll or epoll_wait says that a socket can be read, or a connection accepted, and there is none.",
        "select(2), BUGS",
    ),
    Liberty(
        "fault-eintr",
        "posix",
        "epoll_wait fails with EINTR though no handler ran: the process was stopped and went on.",
        "signal(7), interruption of system calls by stop signals",
    ),
    Liberty(
        "fault-no-restart",
        "posix",
        "A call that a handler with SA_RESTART has interrupted fails with EINTR, as on systems that start fewer calls again.",
        "signal(7), sigaction(3p)",
    ),
    Liberty("fault-close", "posix", "In a program that catches signals close fails with EINTR, and the fd is gone.", "close(2), NOTES"),
)


def check_profile(name: str) -> str:
    """The name of a profile.  UsageError for anything else."""
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return name


def markdown() -> str:
    """docs/liberties.md."""
    lines = [
        "# Liberties",
        "",
        "What the fake machine may do of its own accord. Each is one label of `choice.pick`, and its choice 0 is the plain behaviour. The",
        "profile `linux` has the first part, `network` and `posix` have it too. Written by `simkernel liberties`; a test keeps it current.",
    ]
    for profile, title in (
        ("linux", "linux: one machine"),
        ("network, posix", "network and posix"),
        ("network", "network: a link between hosts"),
        ("posix", "posix: what the man pages permit"),
    ):
        lines += ["", f"## {title}", "", "| label | what may happen | source |", "|---|---|---|"]
        lines += [f"| `{each.label}` | {each.what} | {each.source} |" for each in LIBERTIES if each.profile == profile]
    lines += [
        "",
        "In the check the profile `network` draws the link as well (latency, jitter, bandwidth, loss) and up to two events: a partition",
        "that heals, a reset of all connections, a client killed, and where the contract says `restarts` the server killed and started",
        "again. A client whose connection was hit is excused, a server that dies or hangs of it is not.",
        "",
        "The faults of `posix` hit the process under test and its children alone (`simkernel.testing.under_test`). The harsh ones are",
        "`fault-eintr`, `fault-make-fd`, `fault-fork`, `fault-epoll-ctl`, and ENOBUFS and ENOMEM of `fault-send`: the check has them where",
        "the contract says `harsh`. Of a shortage a right server may turn a client away, so those that it may have been are excused; it",
        "still has to serve all others, and to end when it is told.",
    ]
    return "\n".join(lines) + "\n"
