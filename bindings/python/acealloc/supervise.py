"""Runs a child as if it stood in our own place: signals go to it, and it ends us as it ended."""

from __future__ import annotations

import os
import resource
import signal
from typing import List, Mapping

# Sent to us, these are meant for the child. Stops (SIGTSTP, SIGTTIN, SIGTTOU) reach it from the terminal.
FORWARDED = {
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGALRM, signal.SIGWINCH, signal.SIGCONT,
}  # fmt: skip
FROM_KERNEL = 0x80  # si_code SI_KERNEL: a key at the terminal, which the child has received itself
# Python ignores these from its start; a program expects what the shell gives it.
DEFAULTED = {signal.SIGPIPE, signal.SIGXFSZ}


def run(path: str, argv: List[str], environment: Mapping[str, str]) -> int:
    """Starts the program, stays until it ends, and returns its wait status (see `end_as`).

    While the child is stopped we are stopped too, so that a shell's job control sees one job. It does not ignore
    SIGCHLD, also where we were started so. OSError where it cannot be started.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who ignores it is not told how a child ends
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    try:
        child = os.posix_spawn(path, argv, dict(environment), setsigmask=before, setsigdef=DEFAULTED)
        while True:
            received = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
            if received.si_signo == signal.SIGCHLD:
                pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    continue
                if not os.WIFSTOPPED(status):
                    return status
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(child, signal.SIGCONT)
            elif received.si_code != FROM_KERNEL:
                os.kill(child, received.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_as(status: int) -> int:
    """The exit status for a child's wait status; where a signal ended it, ends this process by the same one."""
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has dumped its core, ours says nothing
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number


def replace(path: str, argv: List[str], environment: Mapping[str, str]) -> None:
    """Becomes the program, with the signals that a shell would give it. OSError where it cannot be started."""
    for number in DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    os.execve(path, argv, dict(environment))
