"""For people who test servers: the check, contracts, simulated tests, tapes for Hypothesis, replay tokens.

from simkernel.testing import check, Echo
report = check(serve, contract=Echo(), examples=500)

    checker      check(), Report                    contracts/   what clients do and expect, to be subclassed
    simulate     @simulate: a test as process 1     temporal     always, never, sometimes, eventually
    stateful     ServerMachine for Hypothesis       plugin       pytest's fixtures, reports and --simkernel-replay
    example      one run, on either kernel          scenario     a server, its clients, and the verdict
    explore      examples until one fails           explain      why a run stands still
    escapes      the real world inside a run        determinism  two runs of one tape
    oracles      what is wrong, whatever is served  spawned      what of that holds for a test's processes
    replay       tokens                             shrink       the smallest run that fails alike
    hosts        a network for tests                weather      what goes wrong on that of a check
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simkernel.testing.checker import Report, check
    from simkernel.testing.contracts import CONTRACTS, Contract, Echo, Http, Plan, RequestReply, Violation
    from simkernel.testing.escapes import no_escape
    from simkernel.testing.example import Failure
    from simkernel.testing.explore import tapes
    from simkernel.testing.hosts import Network, disturbed, network, under_test
    from simkernel.testing.replay import tape
    from simkernel.testing.scenario import listen, open_fds, scenario
    from simkernel.testing.simulate import simulate
    from simkernel.testing.spawned import leaks
    from simkernel.testing.stateful import Client, ServerMachine
    from simkernel.testing.temporal import Broken, Conditions, always, eventually, never, sometimes

# Where each name lives: a module is imported when a name of it is first used, since Hypothesis takes a while.
_HOMES = {
    "checker": ("Report", "check"),
    "contracts": ("CONTRACTS", "Contract", "Echo", "Http", "Plan", "RequestReply", "Violation"),
    "escapes": ("no_escape",),
    "example": ("Failure",),
    "explore": ("tapes",),
    "hosts": ("Network", "disturbed", "network", "under_test"),
    "replay": ("tape",),
    "scenario": ("listen", "open_fds", "scenario"),
    "simulate": ("simulate",),
    "spawned": ("leaks",),
    "stateful": ("Client", "ServerMachine"),
    "temporal": ("Broken", "Conditions", "always", "eventually", "never", "sometimes"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CONTRACTS",
    "Broken",
    "Client",
    "Conditions",
    "Contract",
    "Echo",
    "Failure",
    "Http",
    "Network",
    "Plan",
    "Report",
    "RequestReply",
    "ServerMachine",
    "Violation",
    "always",
    "check",
    "disturbed",
    "eventually",
    "leaks",
    "listen",
    "network",
    "never",
    "no_escape",
    "open_fds",
    "scenario",
    "simulate",
    "sometimes",
    "tape",
    "tapes",
    "under_test",
]


class _Package(ModuleType):
    """Where a function has the name of its module, the name is the function's, also when the module has been imported by itself."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME_OF.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'simkernel.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"simkernel.testing.{home}"), name)
    return value
