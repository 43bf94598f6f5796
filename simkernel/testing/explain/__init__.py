"""Why a run failed, in words: from a Kernel that has just stopped, or from its trace.

stop      who sleeps where, what lies unread, what would have woken the sleeper
missed    what came between a sleeper's last look and its sleep: a signal, a notice, what another thread did
spin      the calls that are made again and again
verdict   what an oracle or a client saw: starvation, memory, crash, corruption, stale-fd, leak, herd
facts     what an error of Linux means, and what to do about it
"""

from simkernel.testing.explain.calls import Calls
from simkernel.testing.explain.spin import explain_spin
from simkernel.testing.explain.stop import explain_stop
from simkernel.testing.explain.verdict import explain_before, explain_finding, explain_memory, explain_starvation

__all__ = ["Calls", "explain_before", "explain_finding", "explain_memory", "explain_spin", "explain_starvation", "explain_stop"]
