"""Echo: each client gets back exactly its bytes."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MS, READ_SIZE, Contract, Plan, Violation, pattern
from simkernel.uapi import AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, POLLOUT, SHUT_WR, SOCK_STREAM


class Echo(Contract):
    """Each client gets back exactly its bytes, in order; after its SHUT_WR the server finishes echoing and closes."""

    name = "echo"
    memory_per_connection: int | None = 512 * 1024
    behaviours = ("turns", "turns", "stream", "vanish", "deaf")

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        try:
            fd = self.connect(sys, addr, plan)
        except OSError as error:
            raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None
        data = pattern(plan.number, sum(plan.sizes))
        if plan.behaviour == "turns":
            self._turns(sys, fd, plan, data)
        elif plan.behaviour == "stream":
            self._stream(sys, fd, plan, data)
        else:
            self._careless(sys, fd, plan, data)
        sys.close(fd)

    def connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        """A connected socket."""
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(fd, addr)
        return fd

    def _turns(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        done = 0
        for i, size in enumerate(plan.sizes):
            if i and plan.pause_ms:
                sys.nanosleep(plan.pause_ms * MS)
            message = data[done : done + size]
            if size > READ_SIZE // 4:
                # Too much to write without reading: both sides could wait for each other.
                self._pump(sys, fd, plan, message, done, shut=False)
            else:
                self._send_all(sys, fd, plan, message)
                got = 0
                while got < size:
                    got += len(self._recv(sys, fd, plan, min(plan.read_size, size - got), data, done + got))
            done += size
        sys.shutdown(fd, SHUT_WR)
        self._expect_end(sys, fd, plan, done, data)

    def _stream(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        self._pump(sys, fd, plan, data, 0, shut=True)
        self._expect_end(sys, fd, plan, len(data), data)

    def _careless(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        """Send without ever reading; the server must survive it."""
        sent = 0
        while sent < len(data):
            try:
                sent += sys.send(fd, data[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{plan}: the server broke off after {sent} bytes: {error.strerror}") from None
        if plan.behaviour == "deaf":
            sys.nanosleep(50 * MS)

    def _send_all(self, sys: Syscalls, fd: int, plan: Plan, message: bytes) -> None:
        left = message
        while left:
            try:
                left = left[sys.send(fd, left, MSG_NOSIGNAL) :]
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None

    def _recv(self, sys: Syscalls, fd: int, plan: Plan, n: int, data: bytes, at: int) -> bytes:
        """Receive, and compare with the bytes of ``data`` from ``at`` on."""
        try:
            got = sys.recv(fd, n)
        except ConnectionResetError:
            raise Violation("corruption", f"{plan}: reset by the server after {at} of {len(data)} bytes") from None
        if not got:
            raise Violation("corruption", f"{plan}: the server closed after {at} of {len(data)} bytes")
        if got != data[at : at + len(got)]:
            self._compare(plan, got, data, at)
        return got

    def _compare(self, plan: Plan, got: bytes, data: bytes, at: int) -> None:
        want = data[at : at + len(got)]
        if got != want:
            first = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), len(want))
            raise Violation(
                "corruption",
                f"{plan}: byte {at + first} came back wrong: sent {want[first : first + 12]!r}, got {got[first : first + 12]!r}",
            )

    def _pump(self, sys: Syscalls, fd: int, plan: Plan, data: bytes, base: int, shut: bool) -> None:
        """Send and receive at the same time, as poll allows, until all has come back."""
        total = len(data)
        sent = got = 0
        whole = pattern(plan.number, sum(plan.sizes))
        while got < total:
            want = POLLIN | (POLLOUT if sent < total else 0)
            sys.poll([(fd, want)], -1)
            if sent < total:
                try:
                    sent += sys.send(fd, data[sent : sent + READ_SIZE], MSG_DONTWAIT | MSG_NOSIGNAL)
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError) as error:
                    raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None
                if sent == total and shut:
                    sys.shutdown(fd, SHUT_WR)
            try:
                chunk = sys.recv(fd, min(plan.read_size, total - got), MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                raise Violation("corruption", f"{plan}: reset by the server after {base + got} bytes") from None
            if not chunk:
                raise Violation("corruption", f"{plan}: the server closed after {base + got} of {base + total} bytes")
            self._compare(plan, chunk, whole, base + got)
            got += len(chunk)

    def _expect_end(self, sys: Syscalls, fd: int, plan: Plan, done: int, data: bytes) -> None:
        try:
            rest = sys.recv(fd, 100)
        except ConnectionResetError:
            raise Violation("corruption", f"{plan}: reset by the server instead of a clean end") from None
        if rest:
            raise Violation("corruption", f"{plan}: {len(rest)} bytes came back that it never sent: {rest[:12]!r}")
