"""For people who test servers: the check, contracts, tapes for Hypothesis, replay tokens.

from simkernel.testing import check, Echo
report = check(serve, contract=Echo(), examples=500)
"""

from simkernel.testing.checker import Report, check
from simkernel.testing.contracts import CONTRACTS, Contract, Echo, Http, Plan, Violation
from simkernel.testing.example import Failure
from simkernel.testing.explore import tapes
from simkernel.testing.network import Network, disturbed, network, under_test
from simkernel.testing.replay import tape
from simkernel.testing.scenario import listen, open_fds, scenario

__all__ = [
    "CONTRACTS",
    "Contract",
    "Echo",
    "Failure",
    "Http",
    "Network",
    "Plan",
    "Report",
    "Violation",
    "check",
    "disturbed",
    "listen",
    "network",
    "open_fds",
    "scenario",
    "tape",
    "tapes",
    "under_test",
]
