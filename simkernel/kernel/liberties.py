"""What the machine may do of its own accord: the liberties of each profile.

``linux``    what Linux on one machine does: who runs next, how a stream is cut, how much buffer there is, how late a timer is
``network``  the same, and a network between client and server: latency, resets, partitions, a peer killed
``posix``    everything that the man pages permit
"""

from typing import Final

from simkernel.errors import UsageError

PROFILES: Final = ("linux", "network", "posix")


def check_profile(name: str) -> str:
    """The name of a profile.  UsageError for anything else."""
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return name
