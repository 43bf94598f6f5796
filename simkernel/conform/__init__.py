"""Proof against the running kernel: random programs, run on both kernels and compared call by call.

program   programs in plain data            machine   makes the calls of one task, and looks at every fd
dice      choices, by seed or by tape       stage     several tasks that block; settle: when a step is over
verbs     what can be done to what          generate, blocking   make programs
compare   run, judge, shrink                text      a difference as a test
kinds, campaign, table, known               the command's work
"""

from simkernel.conform.campaign import Divergence, Report, campaign
from simkernel.conform.kinds import KINDS
from simkernel.conform.known import KNOWN
from simkernel.conform.table import markdown

__all__ = ["KINDS", "KNOWN", "Divergence", "Report", "campaign", "markdown"]
