"""The names of a machine: its hosts, services and protocols, as tables in the formats of /etc.

A simulated program asks no resolver: what is not in the table of its world does not exist.
"""

import _socket
from collections.abc import Iterable, Iterator
from typing import Final

from simkernel.errors import UsageError

AF_INET: Final = 2
AF_INET6: Final = 10

LOCAL: Final = """\
127.0.0.1 localhost
::1       localhost ip6-localhost ip6-loopback
127.0.1.1 simkernel
"""

# Numbers of IANA's, those that programs ask for by name.
SERVICES: Final = """\
tcpmux 1/tcp
echo 7/tcp
echo 7/udp
discard 9/tcp sink null
discard 9/udp sink null
systat 11/tcp users
daytime 13/tcp
daytime 13/udp
qotd 17/tcp quote
chargen 19/tcp ttytst source
chargen 19/udp ttytst source
ftp-data 20/tcp
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
time 37/tcp timserver
time 37/udp timserver
whois 43/tcp nicname
domain 53/tcp
domain 53/udp
bootps 67/udp
bootpc 68/udp
tftp 69/udp
gopher 70/tcp
finger 79/tcp
http 80/tcp www
kerberos 88/tcp kerberos5 krb5 kerberos-sec
kerberos 88/udp kerberos5 krb5 kerberos-sec
pop3 110/tcp pop-3
sunrpc 111/tcp portmapper
sunrpc 111/udp portmapper
nntp 119/tcp readnews untp
ntp 123/udp
imap2 143/tcp imap
snmp 161/tcp
snmp 161/udp
snmp-trap 162/tcp snmptrap
snmp-trap 162/udp snmptrap
irc 194/tcp
irc 194/udp
ldap 389/tcp
ldap 389/udp
https 443/tcp
https 443/udp
submissions 465/tcp ssmtp smtps urd
syslog 514/udp
submission 587/tcp
ldaps 636/tcp
ldaps 636/udp
ftps-data 989/tcp
ftps 990/tcp
imaps 993/tcp
pop3s 995/tcp
socks 1080/tcp
openvpn 1194/tcp
openvpn 1194/udp
ms-sql-s 1433/tcp
mysql 3306/tcp
postgresql 5432/tcp postgres
amqp 5672/tcp
amqp 5672/sctp
x11 6000/tcp x11-0
redis 6379/tcp
http-alt 8080/tcp webcache
http-alt 8080/udp
"""

PROTOCOLS: Final = """\
ip 0 IP
icmp 1 ICMP
igmp 2 IGMP
ggp 3 GGP
ipencap 4 IP-ENCAP
tcp 6 TCP
egp 8 EGP
pup 12 PUP
udp 17 UDP
idp 22 XNS-IDP
rdp 27 RDP
dccp 33 DCCP
ipv6 41 IPv6
rsvp 46 RSVP
gre 47 GRE
esp 50 IPSEC-ESP
ah 51 IPSEC-AH
ipv6-icmp 58 IPv6-ICMP
ospf 89 OSPFIGP
pim 103 PIM
vrrp 112 VRRP
l2tp 115 L2TP
sctp 132 SCTP
udplite 136 UDPLite
mptcp 262 MPTCP
"""


def lines(text: str) -> Iterator[list[str]]:
    """The fields of each line of a table of /etc: comments begin with #."""
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            yield fields


def family_of(addr: str) -> int | None:
    """AF_INET or AF_INET6 of a numeric address, None for anything else."""
    for family in (AF_INET, AF_INET6):
        try:
            _socket.inet_pton(family, addr)
        except (OSError, ValueError):
            continue
        return family
    return None


class Hosts:
    """A machine's names for addresses, as /etc/hosts has them.

    text  lines of an address and its names, the first the canonical one, comments after #
    name  the machine's own name (gethostname)

    UsageError for a line whose address is not a numeric one, or that has no name.
    """

    def __init__(self, text: str = LOCAL, name: str = "simkernel") -> None:
        self.name = name
        # In the order of the lines: (address, its names).
        self.entries: list[tuple[str, tuple[str, ...]]] = []
        for fields in lines(text):
            self.add(fields[0], fields[1:])

    def add(self, addr: str, names: Iterable[str]) -> None:
        """One more line: an address and its names."""
        family = family_of(addr)
        names = tuple(names)
        if family is None:
            raise UsageError(f"hosts: {addr!r} is not a numeric IPv4 or IPv6 address: write an address and its names on a line")
        if not names:
            raise UsageError(f"hosts: {addr} has no name: write an address and its names on a line")
        self.entries.append((_socket.inet_ntop(family, _socket.inet_pton(family, addr)), names))

    def lookup(self, name: str, family: int = 0) -> list[tuple[int, str, str]]:
        """(family, address, canonical name) of each line with the name, whatever its case, of one family or both (0)."""
        wanted = name.lower()
        found: list[tuple[int, str, str]] = []
        for addr, names in self.entries:
            kind = AF_INET6 if ":" in addr else AF_INET
            if family in (0, kind) and wanted in map(str.lower, names) and all(addr != other for _, other, _ in found):
                found.append((kind, addr, names[0]))
        return found

    def names_of(self, addr: str) -> tuple[str, ...]:
        """The names of a numeric address, the canonical one first; empty if it has none."""
        return next((names for other, names in self.entries if other == addr), ())

    def text(self) -> str:
        """The table, in the format it is read from."""
        return "".join(f"{addr} {' '.join(names)}\n" for addr, names in self.entries)


def _services() -> Iterator[tuple[str, int, str, tuple[str, ...]]]:
    for name, number, *aliases in lines(SERVICES):
        port, _, protocol = number.partition("/")
        yield name, int(port), protocol, tuple(aliases)


# (name, port, protocol, aliases) and (name, number, aliases), in the order of the lines.
ALL_SERVICES: Final = tuple(_services())
ALL_PROTOCOLS: Final = tuple((name, int(number), tuple(aliases)) for name, number, *aliases in lines(PROTOCOLS))


def service_port(name: str, protocol: str | None = None) -> int | None:
    """getservbyname(3): the port, in the host's order; None if there is no such service, or not over ``protocol``."""
    for service, port, proto, aliases in ALL_SERVICES:
        if protocol in (None, proto) and (name == service or name in aliases):
            return port
    return None


def service_name(port: int, protocol: str | None = None) -> str | None:
    """getservbyport(3)."""
    return next((service for service, number, proto, _ in ALL_SERVICES if number == port and protocol in (None, proto)), None)


def protocol_number(name: str) -> int | None:
    """getprotobyname(3)."""
    return next((number for protocol, number, aliases in ALL_PROTOCOLS if name == protocol or name in aliases), None)
