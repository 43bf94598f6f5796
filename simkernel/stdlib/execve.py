"""execve for what simkernel can run (fs/exec.c, binfmt_script.c): Python's interpreter with a program of Python's, and scripts for it.

A program that is executed gets a world of its own, as a process gets new memory.  Any other file is a real program: Unsupported.
"""

import errno
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from simkernel.errors import Unsupported, oserror
from simkernel.stdlib.here import here
from simkernel.uapi import F_GETFD, FD_CLOEXEC, O_DIRECTORY, O_RDONLY, SIG_IGN, SIGPIPE, SIGXFSZ

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

INTERPRETER = re.compile(rb"python(\d(\.\d+)?)?")
# Options of the interpreter that change nothing here.
PLAIN_OPTIONS = "BEIPSdqsu"
READ_SIZE = 65536
SHELLS = (b"sh", b"bash", b"dash")
# What a shell does more about than to take it as it is, outside of single quotes.
SPECIAL = re.compile(r"^(?:[^']|'[^']*')*?[|&;<>()$`\\*?\[\]#~=!{}\n]")


def find(executables: Sequence[bytes]) -> bytes:
    """The first of these paths that can be executed.  ENOENT, EACCES, ENOTDIR: of the last that was anything else than missing."""
    failure = oserror(errno.ENOENT)
    for path in executables:
        try:
            found = os.stat(os.path.join(here.sys.getcwd(), path))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = oserror(error.errno or errno.EACCES)
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
            return path
        failure = oserror(errno.EACCES)
    raise failure


def is_python(path: bytes) -> bool:
    """Whether a path is that of a Python interpreter: any of them stands for the one that runs."""
    return INTERPRETER.fullmatch(os.path.basename(path)) is not None or os.path.realpath(path) == os.path.realpath(
        os.fsencode(sys.executable)
    )


def program_of(path: bytes, argv: Sequence[bytes]) -> list[str]:
    """The program and its arguments, as the interpreter has them, of an executable file.  Unsupported if it is not Python's."""
    words = [os.fsdecode(word) for word in argv]
    simple = of_shell(path, words)
    if simple is not None:
        return simple
    where = os.path.join(here.sys.getcwd(), path)
    if is_python(where):
        return options_of(words)
    with open(where, "rb") as file:
        first = file.readline(1024)
    if first.startswith(b"#!"):
        interpreter = [os.fsencode(word) for word in shlex.split(os.fsdecode(first[2:]))]
        if interpreter and os.path.basename(interpreter[0]) == b"env":
            interpreter = [word for word in interpreter[1:] if word != b"-S"]
        if interpreter and is_python(interpreter[0]):
            return options_of([os.fsdecode(word) for word in interpreter] + [os.fsdecode(path), *words[1:]])
    raise Unsupported(f"{shlex.join(words)} is a real program, which a simulated process can't start: only Python's are simulated")


def of_shell(path: bytes, words: Sequence[str]) -> list[str] | None:
    """The program of ``sh -c COMMAND``, if a shell would do nothing but become it: one command, of Python's, without expansions."""
    if os.path.basename(path) not in SHELLS or len(words) != 3 or words[1] != "-c" or SPECIAL.search(words[2]):
        return None
    try:
        command = shlex.split(words[2])
    except ValueError:
        # A quote that does not end: the shell's own error.
        return None
    found = shutil.which(command[0]) if command else None
    return program_of(os.fsencode(found), [os.fsencode(word) for word in command]) if found is not None else None


def options_of(words: Sequence[str]) -> list[str]:
    """What is left of the interpreter's arguments when its own options are taken off; ``-`` for a program on stdin.

    Unsupported for an option that would change something.
    """
    rest = list(words[1:])
    while rest:
        word = rest[0]
        if word == "-" or not word.startswith("-"):
            break
        if word[:2] in ("-c", "-m"):
            return [word[:2], *([word[2:]] if word[2:] else []), *rest[1:]]
        rest.pop(0)
        if word[:2] == "-X":
            option = word[2:] or rest.pop(0)
            if option != "faulthandler":
                raise Unsupported(f"python -X {option} is not modelled in a simulated process")
        elif word.startswith("--") or any(letter not in PLAIN_OPTIONS for letter in word[1:]):
            raise Unsupported(f"the interpreter's option {word} is not modelled in a simulated process")
    return rest or ["-"]


def from_stdin(arguments: Sequence[str]) -> list[str]:
    """A program that is read from stdin, before it begins."""
    text = b""
    while data := here.sys.read(0, READ_SIZE):
        text += data
    return ["-c", text.decode(), *arguments]


def open_fds() -> list[int]:
    """The fds of the running process."""
    fd = here.sys.open("/proc/self/fd", O_RDONLY | O_DIRECTORY)
    found: list[int] = []
    while entries := here.sys.getdents64(fd):
        found += [int(name) for _, _, name in entries if name.isdigit()]
    here.sys.close(fd)
    return sorted(n for n in found if n != fd)


def do_close_on_exec() -> None:
    """Close what has FD_CLOEXEC."""
    for fd in open_fds():
        if here.sys.fcntl(fd, F_GETFD) & FD_CLOEXEC:
            here.sys.close(fd)


def execve(parent: "World", executables: Sequence[bytes], argv: Sequence[bytes], environment: Mapping[bytes, bytes]) -> NoReturn:
    """Become another program: what is below on the stack is never returned to.  OSError if there is no such file."""
    # process knows the worlds, and worlds load the fakes, which come here.
    from simkernel.stdlib.process import run_program  # noqa: PLC0415
    from simkernel.stdlib.world import World  # noqa: PLC0415

    program = program_of(find(executables), argv)
    do_close_on_exec()
    if program[0] == "-":
        program = from_stdin(program[1:])
    world = World(fakes=parent.fakes, shared=parent.shared)
    world.hosts = parent.hosts
    posix = world.modules["posix"]
    posix.initial = dict(environment)  # type: ignore[attr-defined]  # the fake's
    for signum in (SIGPIPE, SIGXFSZ):
        # As the interpreter begins.
        here.sys.sigaction(signum, SIG_IGN)
    here.sys.exit(run_program(world, program))
    raise AssertionError("exit does not return")


def check(executables: Sequence[bytes], argv: Sequence[bytes]) -> None:
    """Unsupported for what execve could not run.  What it could not even find is its own affair."""
    try:
        path = find(executables)
    except OSError:
        return
    program_of(path, argv)


def environment_of(items: Iterable[bytes]) -> dict[bytes, bytes]:
    """An environment of ``NAME=VALUE``."""
    return {name: value for name, _, value in [item.partition(b"=") for item in items]}
