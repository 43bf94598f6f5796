"""The table for people: what was compared, what differs knowingly, and what is not modelled."""

import ast
import platform
from collections import Counter
from pathlib import Path

from simkernel import kernel
from simkernel.conform.campaign import Report
from simkernel.conform.kinds import KINDS
from simkernel.conform.known import KNOWN
from simkernel.kernel.net.options import option_table
from simkernel.uapi import IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_SOCKET

_MOST_OUTCOMES = 6
LEVELS = {
    SOL_SOCKET: "SOL_SOCKET",
    IPPROTO_IP: "IPPROTO_IP",
    IPPROTO_IPV6: "IPPROTO_IPV6",
    IPPROTO_TCP: "IPPROTO_TCP",
    IPPROTO_UDP: "IPPROTO_UDP",
}


def markdown(report: Report, date: str) -> str:
    """The report as a page.  The same seed gives the same page, but for the date and the timing."""
    lines = [
        "# What was compared with Linux",
        "",
        "Made by `simkernel conform --report`: random programs, run on the fake kernel and on the running one, compared call by call.",
        "After each call (in two programs of three) every open fd is polled for its whole mask, and asked for FIONREAD.",
        "",
        f"- kernel: Linux {platform.release()}, {platform.machine()}; Python {platform.python_version()}",
        f"- date: {date}; seed {report.seed}; {report.seconds:.0f} s; of the programs, Linux itself did not always do the same on "
        f"{report.wavered}, and {report.known.get('delayed-ack', 0)} agreed once they were given the pause for a delayed acknowledgement",
        f"- {report.calls:,} calls in {report.programs:,} programs: **{report.differed} divergences**",
        "",
        "| kind | what | programs | calls |",
        "|---|---|---:|---:|",
    ]
    lines += [f"| {kind} | {KINDS[kind].what} | {programs:,} | {calls:,} |" for kind, (calls, programs) in sorted(report.by_kind.items())]
    lines += [
        "",
        "## Calls",
        "",
        "Outcomes are counted on both kernels alike; *asleep* is a call in which its task still slept at the end.",
        "",
    ]
    lines += _calls(report)
    lines += ["", "## Known differences", ""]
    lines += ["| name | what | why | what the comparison does | counted here |", "|---|---|---|---|---|"]
    for known in KNOWN:
        number = f"{report.known.get(known.name, 0):,} " if known.how.startswith("not generated") else ""
        lines.append(f"| {known.name} | {known.what} | {known.reason} | {known.how} | {number}{known.counted} |")
    lines += [
        "",
        "## Not modelled",
        "",
        "What raises `Unsupported` on the fake kernel, read from its source (`...`: what varies); programs leave such calls out.",
        "",
        *_unsupported(),
        "",
        "## Socket options",
        "",
        "A *simulated* option does what it does in Linux; a *stored* one is checked, kept and read back as in Linux, without an effect.",
        "",
        "| level | option | for | |",
        "|---|---|---|---|",
        *(f"| {LEVELS.get(level, level)} | {name} | {where} | {tag} |" for level, name, where, tag in option_table()),
    ]
    return "\n".join(lines) + "\n"


def _calls(report: Report) -> list[str]:
    """A row for each call and type of file."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for (call, kind, outcome), n in report.tally.items():
        name = "write" if call == "add" else call
        rows.setdefault((name, kind), Counter())[outcome] += n
    lines = ["| call | file | compared | ok | errors |", "|---|---|---:|---:|---|"]
    for (call, kind), outcomes in sorted(rows.items()):
        ok = outcomes.pop("ok", 0)
        common = sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))
        errors = ", ".join(f"{name} {n:,}" for name, n in common[:_MOST_OUTCOMES])
        if len(common) > _MOST_OUTCOMES:
            errors += f", and {len(common) - _MOST_OUTCOMES} more"
        lines.append(f"| {call} | {kind or '-'} | {ok + sum(outcomes.values()):,} | {ok:,} | {errors or '-'} |")
    return lines


def _unsupported() -> list[str]:
    """What the fake kernel refuses, read from its source: the text of each Unsupported, with ... for what varies."""
    texts: set[str] = set()
    for path in sorted(Path(kernel.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Unsupported" and node.args:
                texts.add(_text(node.args[0]))
    return [f"- {text}" for text in sorted(texts)]


def _text(node: ast.expr) -> str:
    """A string of the source, with ``...`` for its expressions."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "..."
