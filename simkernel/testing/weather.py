"""The network of one example under the profile ``network``: its link, and what goes wrong there while clients are served."""

from collections.abc import Sequence
from dataclasses import dataclass

from simkernel.api import Syscalls
from simkernel.kernel.choice import Choice
from simkernel.testing.hosts import Network, network
from simkernel.uapi import SIGKILL

MS = 1_000_000
SERVER, CLIENTS = "server", "clients"
SERVER_ADDR, CLIENTS_ADDR = "10.0.0.1", "10.0.0.2"

LATENCIES = (100_000, 0, 5 * MS, 80 * MS)
JITTERS = (0, 0, 1 * MS, 20 * MS)
BANDWIDTHS = (0, 0, 100_000_000, 5_000_000)
LOSSES = (0.0, 0.0, 0.01, 0.1)
AFTER_MS = (1, 0, 5, 20, 100, 400)
LASTS_MS = (300, 10, 3000)
STORMS = ("partition", "reset", "kill")
# How long it takes, in virtual ns, until everything that the last storm has held up is through.
CALM_NS = 30_000 * MS


@dataclass(frozen=True, slots=True)
class Storm:
    """What happens ``after_ms`` after the storm before: a "partition" for ``lasts_ms``, a "reset" of all connections, a "kill" of client

    ``whom``, or a "restart": the server is killed and started again.
    """

    what: str
    after_ms: int
    lasts_ms: int = 0
    whom: int = 0

    def __str__(self) -> str:
        text = {"partition": f"a partition for {self.lasts_ms} ms", "reset": "all connections reset", "restart": "the server restarted"}
        return f"{text.get(self.what, f'client {self.whom} killed')} {self.after_ms} ms later"


@dataclass(frozen=True, slots=True)
class Weather:
    """A link (nanoseconds one way, bits a second, part of all packets that are lost), and storms."""

    latency_ns: int
    jitter_ns: int
    bandwidth_bps: int
    loss: float
    storms: tuple[Storm, ...] = ()

    def restarts(self, status: int) -> bool:
        """Whether a server that has ended with this wait status was killed by a storm, to be started again."""
        return status == SIGKILL and any(storm.what == "restart" for storm in self.storms)

    def kills(self, status: int) -> bool:
        """Whether a client that has ended with this wait status was killed by a storm."""
        return status == SIGKILL and any(storm.what == "kill" for storm in self.storms)

    def __str__(self) -> str:
        parts = [f"latency {self.latency_ns / MS:g} ms"]
        if self.jitter_ns:
            parts.append(f"jitter {self.jitter_ns / MS:g} ms")
        if self.bandwidth_bps:
            parts.append(f"{self.bandwidth_bps // 1_000_000} Mbit/s")
        if self.loss:
            parts.append(f"{self.loss:.0%} lost")
        return f"the network: {', '.join([*parts, *map(str, self.storms)])}"


def forecast(choice: Choice, clients: int, restarts: bool) -> Weather:
    """The network of an example: a short latency and nothing else when all choices are 0."""

    def one(of: Sequence[int], label: str) -> int:
        return of[choice.pick(len(of), label)]

    latency, jitter, bandwidth = one(LATENCIES, "latency"), one(JITTERS, "link-jitter"), one(BANDWIDTHS, "bandwidth")
    loss = LOSSES[choice.pick(len(LOSSES), "link-loss")]
    kinds = (*STORMS, "restart") if restarts else STORMS
    storms = []
    for _ in range(choice.pick(3, "storms")):
        what = kinds[choice.pick(len(kinds), "storm")]
        after = one(AFTER_MS, "storm-after")
        storms.append(Storm(what, after, one(LASTS_MS, "storm-lasts") if what == "partition" else 0, choice.pick(clients, "storm-whom")))
    return Weather(latency, jitter, bandwidth, loss, tuple(storms))


def make_network(sys: Syscalls, weather: Weather) -> Network:
    """The two hosts and their link; the calling process goes to the server's."""
    net = network(sys)
    net.host(SERVER, SERVER_ADDR)
    net.host(CLIENTS, CLIENTS_ADDR)
    net.link(
        SERVER,
        CLIENTS,
        latency_ns=weather.latency_ns,
        jitter_ns=weather.jitter_ns,
        bandwidth_bps=weather.bandwidth_bps,
        loss=weather.loss,
    )
    net.enter(SERVER)
    return net


def network_main(sys: Syscalls, net: Network, weather: Weather, clients: Sequence[int], server: Sequence[int]) -> None:
    """A process that makes the storms.  ``server`` holds the server's pid, the latest last."""
    for storm in weather.storms:
        sys.nanosleep(storm.after_ms * MS)
        if storm.what == "partition":
            net.partition(SERVER, CLIENTS)
            sys.nanosleep(storm.lasts_ms * MS)
            net.heal(SERVER, CLIENTS)
        elif storm.what == "reset":
            net.reset(SERVER, CLIENTS)
        elif storm.what == "kill":
            if clients:
                net.kill(clients[storm.whom % len(clients)])
        else:
            net.kill(server[-1])
