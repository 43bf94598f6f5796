"""A network for tests: hosts, links between them, and what goes wrong there.

    net = simkernel.testing.network(sys)
    net.host("server", "10.0.0.1")
    net.host("client", "10.0.0.2")
    net.link("server", "client", latency_ns=5_000_000, jitter_ns=1_000_000, bandwidth_bps=100_000_000, loss=0.01)
    pid = net.spawn("server", serve_forever)         # binds 10.0.0.1, or 0.0.0.0
    net.spawn("client", client, ("10.0.0.1", 9000))
    net.partition("server", "client")
    sys.nanosleep(2_000_000_000)
    net.heal("server", "client")

A host is a network namespace: its own addresses, ports and lo; process ids, files and the clock are everybody's.  What jitter, loss and
doubling do is a choice of the run's; without a choice source there is neither.  The fake kernel alone has such a network.
"""

from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address

from simkernel.api import Main, Syscalls
from simkernel.errors import Unsupported, UsageError
from simkernel.kernel.net.net_namespace import Net, connections, find_link, power_off, reset_connection, set_carrier, veth_newlink
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.veth import VethDev
from simkernel.kernel.sched import Process
from simkernel.kernel.syscalls import SimSyscalls
from simkernel.uapi import NSEC_PER_SEC, SIGKILL, WNOHANG

# A choice of one in so many is a byte of a tape at most.
MAX_ODDS = 256
# How long a link may take, which also keeps a mistaken unit from making a run of years.
MAX_DELAY = 60 * NSEC_PER_SEC


def network(sys: Syscalls) -> "Network":
    """The network of the machine that ``sys`` belongs to.  Unsupported on the real kernel."""
    if not isinstance(sys, SimSyscalls):
        raise Unsupported("simkernel.testing.network works on the fake kernel alone: on real Linux use network namespaces and tc-netem(8)")
    return Network(sys)


def disturbed(sys: Syscalls, pid: int = 0) -> str:
    """What the network or a fault did to a connection of a process (default: the calling one): "" for nothing, as always on Linux.

    A client that sees its connection broken asks here whether that is the server's fault.
    """
    if not isinstance(sys, SimSyscalls):
        return ""
    return sys.disturbed.get(pid or sys.sched.current.process.pid, "")


def under_test(sys: Syscalls, yes: bool = True) -> None:
    """Say that the calling process and its children are what a test is about: the faults of the profile ``posix`` hit them alone."""
    if isinstance(sys, SimSyscalls):
        sys.sched.current.process.make_it_fail = yes


class Network:
    """Hosts and links.  Hosts are named by the name that they were given; "" is the machine itself, where process 1 begins."""

    def __init__(self, sys: SimSyscalls) -> None:
        self._sys = sys
        self._spawned: dict[int, tuple[str, Main, tuple[object, ...]]] = {}

    def host(self, name: str, addr: str) -> None:
        """A new host with an IPv4 address; its network is the first 24 bits.  UsageError for a name or address that is taken or odd."""
        try:
            ip = IPv4Address(addr)
        except AddressValueError:
            raise UsageError(f"a host's address must be IPv4, as 10.0.0.1, not {addr!r}") from None
        if ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_reserved or ip.packed[3] in (0, 255):
            raise UsageError(f"{addr} can't be a host's address: choose one as 10.0.0.1")
        nets = self._sys.nets
        for net in nets:
            if net.name == name:
                raise UsageError(f"there is a host {name!r} already" if name else "a host needs a name")
            if addr in net.addrs:
                raise UsageError(f"{addr} is the address of host {net.name!r} already")
        net = Net(self._sys.sched, self._sys.sysctl, self._sys.lo, name)
        net.addrs.append(addr)
        nets.append(net)

    def link(
        self,
        a: str,
        b: str,
        *,
        latency_ns: int = 0,
        jitter_ns: int = 0,
        bandwidth_bps: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
    ) -> None:
        """Link two hosts, or change the link between them.

        ``latency_ns`` one way, and up to ``jitter_ns`` more; ``bandwidth_bps`` bits a second each way (0: no limit); ``loss`` and
        ``duplicate`` the parts of all packets that are lost and (datagrams alone) doubled, from 0 to 0.5: a lost segment of TCP comes late.
        """
        for what, value in (("latency_ns", latency_ns), ("jitter_ns", jitter_ns)):
            if not 0 <= value <= MAX_DELAY:
                raise UsageError(f"{what} must be nanoseconds from 0 to {MAX_DELAY}, not {value}")
        if bandwidth_bps < 0:
            raise UsageError(f"bandwidth_bps must be bits a second, or 0 for no limit, not {bandwidth_bps}")
        one, other = self._net(a), self._net(b)
        if one is other:
            raise UsageError(f"a link needs two hosts, not {a!r} twice")
        if not (one.addrs and other.addrs):
            raise UsageError("the machine itself has no address to link: make a host, and enter it")
        dev = find_link(one, other)
        for end in (dev, dev.peer) if dev is not None else veth_newlink(one, other):
            assert isinstance(end, VethDev)
            end.latency, end.jitter, end.bandwidth = latency_ns, jitter_ns, bandwidth_bps
            end.loss, end.duplicate = odds("loss", loss), odds("duplicate", duplicate)

    def enter(self, name: str) -> None:
        """Move the calling process to a host; sockets that it has stay where they are (setns(2))."""
        self._sys.sched.current.process.net_ns = self._number(name)

    def spawn(self, name: str, main: Main, *args: object) -> int:
        """Start ``main(sys, *args)`` on a host, as a child of the calling process; its pid."""
        number = self._number(name)
        pid = self._sys.spawn(main, *args)
        # It has not run yet: a new process waits for its turn.
        self._sys.sched.processes[pid].net_ns = number
        self._spawned[pid] = name, main, args
        return pid

    def kill(self, pid: int) -> None:
        """SIGKILL for a process and all that it has started: the kernel closes their connections.  Its parent still waits for it."""
        sys = self._sys
        process = sys.sched.processes.get(pid)
        if process is None:
            return
        victims = family(process)
        for victim in victims:
            for sk in sockets(victim):
                self._sys.disturb(sk, f"process {pid} was killed")
        for victim in victims:
            self._end(victim)

    def restart(self, pid: int) -> int:
        """Start once more what ``spawn`` started as ``pid``, which is killed, and waited for, if it still runs.  The new pid."""
        if pid not in self._spawned:
            raise UsageError(f"process {pid} was not started by this network's spawn, so it can't be restarted")
        self.kill(pid)
        sys = self._sys
        process = sys.sched.processes.get(pid)
        if process is not None and process.parent is sys.sched.current.process:
            sys.waitpid(pid, 0 if process.threads else WNOHANG)
        name, main, args = self._spawned.pop(pid)
        return self.spawn(name, main, *args)

    def partition(self, a: str, b: str, *, one_way: bool = False) -> None:
        """Nothing gets through between two hosts (``one_way``: from ``a`` to ``b``), until heal.  Nobody is told."""
        self._carrier(a, b, False, one_way)

    def heal(self, a: str, b: str) -> None:
        """The link carries everything again: what TCP still sends again comes with its next try."""
        self._carrier(a, b, True, False)

    def reset(self, a: str, b: str, port: int = 0) -> int:
        """Reset the connections between two hosts, both ends, as a middlebox does; with ``port`` those that have it.  How many."""
        count = 0
        for sk in connections(self._link(a, b)):
            if port and port not in (sk.lport, sk.rport):
                continue
            if sk.peer is not None:
                self._sys.disturb(sk, "the network reset its connection")
            count += reset_connection(sk)
        return count

    def crash(self, name: str) -> None:
        """The host loses power: its processes are gone, its peers learn nothing, and its links are down until ``boot``."""
        number = self._number(name)
        net = self._sys.nets[number]
        for dev in net.links:
            set_carrier(dev, False)
            assert isinstance(dev.peer, VethDev)
            set_carrier(dev.peer, False)
        for sk in list(net.inet.established.values()):
            self._sys.disturb(sk, f"host {name} crashed")
        power_off(net)
        sched = self._sys.sched
        for process in sorted(sched.processes.values(), key=lambda process: process.pid):
            if process.net_ns == number and process is not sched.current.process:
                self._end(process)

    def boot(self, name: str) -> None:
        """The host's links are up again; whoever still sends to what it was gets a reset.  Its processes have to be started anew."""
        for dev in self._net(name).links:
            set_carrier(dev, True)
            assert isinstance(dev.peer, VethDev)
            set_carrier(dev.peer, True)

    # --- helpers ---
    def _end(self, process: Process) -> None:
        """Kill a process, unless it has ended."""
        if process.threads:
            with suppress(ProcessLookupError):
                # It may end, and be waited for, while this call has not begun.
                self._sys.kill(process.pid, SIGKILL)

    def _number(self, name: str) -> int:
        for number, net in enumerate(self._sys.nets):
            if net.name == name:
                return number
        raise UsageError(
            f"there is no host {name!r}: the hosts are {', '.join(repr(net.name) for net in self._sys.nets[1:]) or 'none yet'}"
        )

    def _net(self, name: str) -> Net:
        return self._sys.nets[self._number(name)]

    def _link(self, a: str, b: str) -> VethDev:
        dev = find_link(self._net(a), self._net(b))
        if dev is None:
            raise UsageError(f"there is no link between {a!r} and {b!r}: make it with link()")
        return dev

    def _carrier(self, a: str, b: str, up: bool, one_way: bool) -> None:
        dev = self._link(a, b)
        set_carrier(dev, up)
        if not one_way:
            assert isinstance(dev.peer, VethDev)
            set_carrier(dev.peer, up)


def sockets(process: Process) -> list[TcpSock]:
    """The TCP sockets that a process has open."""
    return [file.sk for file in process.files.open_fds().values() if isinstance(file.sk, TcpSock)]


def family(process: Process) -> list[Process]:
    """A process and all that it has started, itself last."""
    return [each for child in process.children for each in family(child)] + [process]


def odds(what: str, part: float) -> int:
    """One in how many, 0 for none."""
    if not 0 <= part <= 0.5:
        raise UsageError(f"{what} must be a part of all packets from 0 to 0.5, not {part}")
    return min(round(1 / part), MAX_ODDS) if part else 0
