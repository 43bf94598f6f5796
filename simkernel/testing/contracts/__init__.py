"""What a server promises, and the clients that hold it to that.

A contract draws a plan for each client from a choice source, and plays a plan as a process of its own.  Everything here is written on
api.Syscalls, so the same clients run on both kernels.
"""

from simkernel.testing.contracts.base import Contract, Plan, Violation
from simkernel.testing.contracts.echo import Echo
from simkernel.testing.contracts.http import Http

CONTRACTS: dict[str, type[Contract]] = {"echo": Echo, "http": Http}

__all__ = ["CONTRACTS", "Contract", "Echo", "Http", "Plan", "Violation"]
