"""The walk and the reader of callgrind's files, on functions whose numbers are known."""

import os
import subprocess

import pytest
from callgrind import Counts, read, run
from fast_path import address_of_call, disassemble, function_code, walk

# A function with a rare jump over a short detour, a rare tail call, and a return.
LISTING = """
0000000000001000 <f>:
    1000:\ttest   %rdi,%rdi
    1003:\tje     1010 <f+0x10>
    1005:\tlea    0x5(%rip),%rax        # 1011 <table>
    1008:\tcs nopw 0x0(%rax,%rax,1)
    100a:\tja     1018 <f+0x18>
    100c:\tret
    1010:\tmov    %rsi,%rdi
    1014:\tjmp    1005 <f+0x5>
    1018:\taddr32 call 3000 <other>
    101c:\tjmp    2000 <slow>
"""
ENTRY = [0x1000, 0x1003, 0x1005, 0x1008, 0x100A]


def counts_of(executed, taken):
    counts = Counts()
    counts.executed.update(executed)
    counts.taken.update(taken)
    return counts


def counts_with(detours, slow, calls=100):
    executed = dict.fromkeys(ENTRY, calls)
    executed |= {0x1010: detours, 0x1014: detours, 0x1018: slow, 0x101C: slow, 0x100C: calls - slow}
    return counts_of(executed, {0x1003: detours, 0x100A: slow})


def test_disassembly():
    code = disassemble(LISTING)
    assert len(code) == 10
    assert code[0x1003].is_branch and code[0x1003].target == 0x1010 and code[0x1003].following == 0x1005
    assert code[0x1005].target is None, "an address of data is no target"
    assert code[0x1008].mnemonic == "nopw"
    assert code[0x100C].is_return
    assert (code[0x1018].mnemonic, code[0x1018].callee) == ("call", "other")
    assert code[0x101C].is_jump and code[0x101C].callee == "slow"


def test_common_calls_return():
    path = walk(disassemble(LISTING), counts_with(detours=2, slow=3))
    assert path.addresses == (*ENTRY, 0x100C)
    assert (path.length, path.calls, path.fast, path.ends_in) == (6, 100, 95, "")
    assert path.share == 0.95


def test_common_calls_take_the_detour():
    path = walk(disassemble(LISTING), counts_with(detours=90, slow=0))
    assert (path.length, path.fast) == (8, 90)


def test_what_leaves_is_not_fast_even_where_it_is_common():
    path = walk(disassemble(LISTING), counts_with(detours=0, slow=60))
    assert (path.length, path.fast, path.ends_in) == (6, 40, "")


def test_a_return_after_a_call_is_not_fast():
    code = disassemble("    10:\ttest   %rdi,%rdi\n    13:\tje     20 <f>\n    15:\tret\n"
                       "    20:\tcall   80 <slow>\n    25:\tret\n")
    executed = {0x10: 100, 0x13: 100, 0x15: 10, 0x20: 90, 0x25: 90}
    path = walk(code, counts_of(executed, {0x13: 90}))
    assert (path.addresses, path.fast) == ((0x10, 0x13, 0x15), 10)
    del code[0x15]
    with pytest.raises(AssertionError, match="each way calls something"):
        walk(code, counts_of(executed, {0x13: 90}))


def test_by_a_given_instruction():
    code = disassemble(LISTING)
    at = address_of_call(code, "slow")
    assert at == 0x101C and address_of_call(code, "third") is None
    path = walk(code, counts_with(detours=2, slow=3), through=at)
    assert (path.length, path.calls, path.fast, path.ends_in) == (7, 3, 3, "slow")


def test_counts_of_another_function_are_noticed():
    with pytest.raises(AssertionError, match="do not fit"):
        walk(disassemble(LISTING), counts_of({0x1000: 100, 0x100C: 100}, {}))


def test_loops_are_noticed():
    code = disassemble("    10:\ttest   %rdi,%rdi\n    13:\tjne    10 <f>\n    15:\tret\n")
    with pytest.raises(AssertionError, match="a loop at 0x10"):
        walk(code, counts_of({0x10: 100, 0x13: 100, 0x15: 1}, {0x13: 99}))


def test_callgrind_file():
    profile = read(
        """events: Ir
ob=/lib/a.so
fn=f
0x10 7
0x12 7
jcnd=3/7 0x20
0x12
0x14 4
cob=/lib/b.so
cfn=g
calls=4 0x80
0x14 400
0x10 5
jump=4 0x20
0x18

fn=h
cfn=g
calls=1 0x80
0x30 10
""".splitlines(keepends=True)
    )
    (counts,) = profile.objects.values()
    assert counts.executed == {0x10: 12, 0x12: 7, 0x14: 4}
    assert +counts.taken == {0x12: 3, 0x14: 4, 0x30: 1}
    assert profile.calls == {("f", "g"): [4, 400], ("h", "g"): [1, 10]}


def test_program(tmp_path):
    """All of it on a function of ours: of ten calls, one leaves by a conditional jump and two by a plain one."""
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(
        """
        void slow(void) {}
        void f(int rare);
        __asm__(".globl f\\n.type f, @function\\n"
                "f: nop\\n cmp $5, %edi\\n je slow\\n ja 1f\\n nop\\n jmp 2f\\n"
                "1: jmp slow\\n"
                "2: nop\\n ret\\n.size f, .-f\\n");
        int main(void) {
          for (int i = 0; i < 1000; ++i) f(i % 10 < 3 ? 5 + i % 10 : 0);
          return 0;
        }
        """
    )
    subprocess.run(["cc", "-O1", source, "-o", program], check=True)
    profile = run([program], tmp_path, {})
    path = walk(function_code(program, "f"), profile.objects[os.path.realpath(program)])
    assert (path.length, path.calls, path.fast, path.ends_in) == (8, 1000, 700, "")
    assert profile.calls["main", "f"] == [1000, 700 * 8 + 100 * (3 + 1) + 200 * (5 + 1)]
