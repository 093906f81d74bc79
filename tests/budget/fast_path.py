"""The way that most calls of a function take through its instructions, and how many take it.

The fast path is what calls nothing: it ends in a return of the function's own, and whatever is rare leaves it by a
jump or a call to another function. The walk begins at the function's entry and follows at each conditional jump,
of the directions that lead to such a return, the one that was taken more often. Its length is therefore exact, and
no mean of rare and common calls.
"""

import dataclasses
import functools
import re
import subprocess

PREFIXES = {"addr32", "bnd", "cs", "data16", "lock", "notrack", "rep", "repz", "repnz"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    mnemonic: str
    target: int  # of a direct jump or call, else None
    callee: str  # the name there
    following: int  # the address of the next instruction in the file

    @property
    def is_return(self):
        return self.mnemonic in ("ret", "retq")

    @property
    def is_call(self):
        return self.mnemonic.startswith("call")

    @property
    def is_jump(self):
        return self.mnemonic in ("jmp", "jmpq")

    @property
    def is_branch(self):
        return self.mnemonic.startswith("j") and not self.is_jump


@dataclasses.dataclass(frozen=True)
class Path:
    addresses: tuple
    calls: int  # of the function; with `through`, those that came by there
    fast: int  # that took this path: at least so many, and exactly where who leaves it never comes back to it
    ends_in: str  # "": returns; else where it jumps to

    @property
    def length(self):
        return len(self.addresses)

    @property
    def share(self):
        return self.fast / self.calls


def disassemble(text):
    """A function's instructions by address, from what objdump prints of it."""
    lines = re.findall(r"^\s*([0-9a-f]+):\t(.+)$", text, re.M)
    code = {}
    for i, (address, words) in enumerate(lines):
        following = int(lines[i + 1][0], 16) if i + 1 < len(lines) else None
        match = re.search(r"\s([0-9a-f]+) <([^>]+)>$", words)
        mnemonic = next((word for word in words.split() if word not in PREFIXES), words)
        jumps = match and (mnemonic.startswith("j") or mnemonic.startswith("call"))
        target, callee = (int(match[1], 16), match[2]) if jumps else (None, "")
        code[int(address, 16)] = Instruction(mnemonic, target, callee, following)
    return code


@functools.cache
def symbols(library):
    """(address, size) by name of the functions of an object file; static ones too, where it is not stripped."""
    output = subprocess.check_output(["nm", "-S", "--defined-only", library], text=True)
    lines = (line.split() for line in output.splitlines())
    return {words[3]: (int(words[0], 16), int(words[1], 16)) for words in lines if len(words) == 4}


@functools.cache
def function_code(library, name):
    start, size = symbols(library)[name]
    limits = ["--start-address=%#x" % start, "--stop-address=%#x" % (start + size)]
    output = subprocess.check_output(["objdump", "-d", "--no-show-raw-insn", *limits, library], text=True)
    return disassemble(output)


def leads_to(code, start, goal):
    """Is there a way within the function from an instruction to another one, or, where `goal` is None, to a return
    without any call?"""
    seen, waiting = set(), [start]
    while waiting:
        at = waiting.pop()
        if at in seen or at not in code:
            continue
        seen.add(at)
        instruction = code[at]
        if at == goal or (goal is None and instruction.is_return):
            return True
        if goal is None and instruction.is_call:
            continue
        if instruction.is_jump or instruction.is_branch:
            waiting.append(instruction.target)
        if not instruction.is_jump and not instruction.is_return:
            waiting.append(instruction.following)
    return False


def walk(code, counts, through=None):
    """The Path through `code` to a return without any call; with `through`, of those calls that execute the
    instruction at this address."""
    at = min(code)
    goal_is_ahead = True
    assert leads_to(code, at, through), "each way calls something"
    calls = fast = counts.executed[at if through is None else through]
    path = []
    while True:
        assert at not in path, "a loop at %#x" % at
        path.append(at)
        instruction = code[at]
        goal_is_ahead = goal_is_ahead and at != through
        if instruction.is_return:
            ends_in = ""
            break
        if instruction.is_branch:
            taken = counts.taken[at]
            ways = [(taken, instruction.target), (counts.executed[at] - taken, instruction.following)]
            chosen = max(way for way in ways if not goal_is_ahead or leads_to(code, way[1], through))
            # Before the given instruction others take ways of their own; after it, who leaves is one of those.
            if through is None or not goal_is_ahead:
                fast -= counts.executed[at] - chosen[0]
            following = chosen[1]
        else:
            following = instruction.target if instruction.is_jump else instruction.following
        if following not in code:
            ends_in = instruction.callee
            break
        at = following
    rarest = min(counts.executed[address] for address in path)
    if through is not None:
        fast = min(fast, rarest)
    # Holds unless what was disassembled is not what was run.
    assert fast <= rarest, "the counts do not fit the code"
    return Path(tuple(path), calls, fast, ends_in)


def address_of_call(code, callee):
    """Where the function calls or jumps to another one; None where it does not."""
    return next((at for at, instruction in code.items() if instruction.callee == callee), None)
