"""AF_UNIX sockets in flight, and the collection of those that nobody can receive any more (net/unix/garbage.c).

A socket that was sent over a socket is held by the queue it waits in.  Two that wait in each other's queues, their fds closed, would hold
each other for ever, and their peers would never see the end.  So whenever an AF_UNIX socket goes while others are in flight, unix_gc looks
for sockets that only such queues hold and that no program can reach, and empties their queues.

Linux does this soon, in a work queue, with Tarjan's algorithm; here it is done at once, by marking what can be reached.
"""

from typing import TYPE_CHECKING

from simkernel.kernel.net.scm import ScmFpList

if TYPE_CHECKING:
    from simkernel.kernel.file import File
    from simkernel.kernel.net.unix import UnixSkb, UnixSock


class InFlight:
    """The queued messages with files, in the order sent, each with the socket in whose queue it waits.

    ``tot_inflight`` counts the AF_UNIX sockets among the files (unix_tot_inflight).

    ``delayed`` are files that have lost a message's reference and are still to be put, one after another (fput's task work): the last
    reference to a socket drops the files in its queue, among them sockets, whose queues ... and so on, however deep.
    """

    __slots__ = ("collecting", "delayed", "edges", "tot_inflight")

    def __init__(self) -> None:
        self.edges: dict[ScmFpList, UnixSock] = {}
        self.tot_inflight = 0
        self.delayed: list[File] | None = None
        self.collecting = False

    def add_edges(self, fpl: ScmFpList, receiver: "UnixSock") -> None:
        """unix_add_edges: the message has been queued at ``receiver``."""
        self.edges[fpl] = receiver
        self.tot_inflight += len(fpl.sockets)

    def del_edges(self, fpl: ScmFpList) -> None:
        """unix_del_edges: it has been received, or thrown away."""
        del self.edges[fpl]
        self.tot_inflight -= len(fpl.sockets)

    def put_files(self, fpl: ScmFpList) -> None:
        """The message is thrown away: drop its files."""
        if self.delayed is not None:
            self.delayed += reversed(fpl.fp)
            return
        self.delayed = delayed = list(reversed(fpl.fp))
        for file in delayed:
            file.fput()
        self.delayed = None

    def unix_gc(self) -> None:
        """__unix_gc: free the sockets in flight that nobody can receive."""
        if not self.tot_inflight or self.collecting:
            return
        self.collecting = True
        hitlist: list[UnixSkb] = []
        for sk in self._garbage():
            sk.collect_queue(hitlist)
        # This closes the sockets, which asks for another collection: there is nothing left to find.
        for skb in hitlist:
            skb.sk.kfree_skb(skb)
        self.collecting = False

    def _garbage(self) -> "list[UnixSock]":
        counts: dict[UnixSock, int] = {}
        for fpl in self.edges:
            for sk in fpl.sockets:
                counts[sk] = counts.get(sk, 0) + 1
        # Those that no fd and no sleeping call holds, only messages.
        dead: dict[UnixSock, None] = {}
        for sk, count in counts.items():
            if sk.socket is not None and sk.socket.f_count == count:
                dead[sk] = None
        held: dict[UnixSock, list[ScmFpList]] = {}
        reached: list[ScmFpList] = []
        for fpl, receiver in self.edges.items():
            # A connection that has not been accepted is reached through its listener.
            holder = receiver.listener if receiver.socket is None and receiver.listener is not None else receiver
            if holder in dead:
                held.setdefault(holder, []).append(fpl)
            else:
                reached.append(fpl)
        for fpl in reached:
            for sk in fpl.sockets:
                if sk in dead:
                    del dead[sk]
                    reached += held.get(sk, ())
        return list(dead)
