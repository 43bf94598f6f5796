"""Where the two kernels are known to differ: each with its reason, and how the comparison keeps away from it.  Keep this list short."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Known:
    """A known difference.

    ``how`` is what the comparison does about it ("not generated" or "not compared"), ``counted`` what its number in a report counts.
    """

    name: str
    what: str
    reason: str
    how: str
    counted: str


KNOWN: Final = (
    Known(
        "tcp-capacity",
        "How many bytes a TCP or UDP socket's buffers hold, and when a full one has room again",
        "Linux counts the kernel's own overhead for each segment, tunes the buffers while a connection lasts, and cuts both by how much "
        "memory the machine has; the model counts payload",
        "not generated: no program writes more to a TCP connection than its smallest buffer holds",
        "writes to TCP that were kept small",
    ),
    Known(
        "nagle",
        "When a small segment leaves while another is not yet acknowledged",
        "Nagle's algorithm waits for an acknowledgement that Linux itself may delay by 40 ms; the model sends at once",
        "not generated: each TCP socket has TCP_NODELAY",
        "TCP sockets that were given TCP_NODELAY",
    ),
    Known(
        "delayed-ack",
        "When the acknowledgement of a FIN arrives, and the edge that comes with it",
        "Linux may acknowledge a FIN only after 40 ms, by its own estimate of the connection; the model does at once",
        "not compared: a program that differs is run again with a pause of 45 ms after each shutdown and close; not generated: no task "
        "shuts the sending half of a TCP socket while another sleeps on it or on an epoll: the FIN and its acknowledgement wake them twice",
        "programs that agreed once they were given the pause: see the date",
    ),
    Known(
        "held-data",
        "Whether a segment from the peer makes bytes leave that MSG_MORE holds",
        "It does in tcp_rcv_established's slow path, and not in its fast one: which one is taken hangs on whether the window that the peer "
        "advertises is the one that was predicted; the model always lets them go",
        "not generated: no MSG_MORE on TCP",
        "sends that would have had it",
    ),
    Known(
        "in-flight",
        "When a cycle of AF_UNIX sockets in flight is collected",
        "A worker of the kernel does it some time later, and looks at the sockets of the whole machine; the model does it at close",
        "not generated: SCM_RIGHTS takes files that are no AF_UNIX sockets",
        "messages with SCM_RIGHTS",
    ),
    Known(
        "tcp-frags",
        "How many buffers of a pipe the bytes take that splice moves there from a TCP socket",
        "Small segments share pages as the kernel's allocator happens to lay them out",
        "not generated: no splice from TCP to a pipe",
        "splices that would have had TCP as their source",
    ),
    Known(
        "same-jiffy",
        "Which of several calls whose time limits on sockets end together returns first",
        "Limits that end in one jiffy (4 ms) end in the reverse order of their beginning; in which jiffy a call began is chance",
        "not compared: EAGAINs that come in one step are sorted by task",
        "nothing is counted",
    ),
    Known(
        "o-direct",
        "O_DIRECT of a file with a path",
        "It is the file system's affair; files of programs are in /tmp, on whatever that is",
        "not generated: no F_SETFL with O_DIRECT on files",
        "F_SETFL on files",
    ),
)
