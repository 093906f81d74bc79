"""In which order the runs are made, and which are left to do.

Rounds come in pairs: in a pair each program runs on its peers from first to last and then from last to first, so that
what drifts (heat, neighbours) meets all of them alike. Then comes the next program, and after all programs the next
pair: whenever the work is interrupted, all programs have nearly as many rounds.
"""

from dataclasses import dataclass

from harness.peers import Peer
from harness.programs import Program


@dataclass(frozen=True)
class Cell:
    """One run. order: its place within the round, from 0."""

    program: Program
    peer: Peer
    round: int
    order: int

    @property
    def key(self):
        return (*self.program.key, self.peer.name, self.round)


def plan(programs, peers_of, rounds):
    """All cells, in order. peers_of(program) gives the peers of a program."""
    cells = []
    for first in range(0, rounds, 2):
        for program in programs:
            for number in range(first, min(first + 2, rounds)):
                peers = list(peers_of(program))
                if number % 2:
                    peers.reverse()
                cells += [Cell(program, peer, number, order) for order, peer in enumerate(peers)]
    return cells


def left_to_do(cells, done):
    """Those that have no good run yet; `done` holds the keys of good runs."""
    return [cell for cell in cells if cell.key not in done]


def torn_rounds(cells, done):
    """How many rounds are partly done: what is added to them does not run next to what is there."""
    seen = {}
    for cell in cells:
        seen.setdefault((cell.program.key, cell.round), set()).add(cell.key in done)
    return sum(len(states) == 2 for states in seen.values())
