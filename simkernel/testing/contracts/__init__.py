"""What a server promises, and the clients that hold it to that.

A contract draws a plan for each client from a choice source, and plays a plan as a process of its own.  Everything here is written on
api.Syscalls, so the same clients run on both kernels.
"""

from simkernel.testing.contracts.base import Contract, Plan, Violation
from simkernel.testing.contracts.echo import Echo
from simkernel.testing.contracts.flood import Flood
from simkernel.testing.contracts.http import Http
from simkernel.testing.contracts.lines import Lines, Question
from simkernel.testing.contracts.patience import Patience
from simkernel.testing.contracts.relay import Relay
from simkernel.testing.contracts.requests import RequestReply
from simkernel.testing.contracts.surroundings import Burst, Crowded, Plain, Restarted, Sigterm

CONTRACTS: dict[str, type[Contract]] = {
    contract.name: contract for contract in (Echo, Plain, Http, Lines, Question, Relay, Sigterm, Restarted, Crowded, Burst, Flood, Patience)
}

__all__ = ["CONTRACTS", "Contract", "Echo", "Http", "Plan", "RequestReply", "Violation"]
