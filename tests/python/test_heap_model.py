"""Random lists of operations against a dictionary, with an audit after each step. A failing list is printed."""

from acealloc import Heap, Hint
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

# Mostly small, sometimes page runs, now and then a mapping of its own.
SIZES = st.one_of(st.integers(0, 2048), st.integers(2048, 300_000), st.sampled_from([1 << 20, (2 << 20) + 1]))


class HeapMachine(RuleBasedStateMachine):
    """model: block -> what was written into it."""

    blocks = Bundle("blocks")

    def __init__(self):
        super().__init__()
        self.heap = Heap("model", kind_groups=3)
        self.model = {}
        self.serial = 0

    def mark(self, block, size):
        """Writes something that no other block holds."""
        self.serial += 1
        data = (b"%d." % self.serial)[:size].ljust(min(size, 64), b"*")
        self.heap.write(block, data)
        self.model[block] = data
        return block

    @rule(target=blocks, size=SIZES, kind=st.integers(0, 3), zero=st.booleans())
    def alloc(self, size, kind, zero):
        block = self.heap.alloc(size, kind, zero=zero)
        assert block not in self.model
        assert not zero or self.heap.read(block, size) == bytes(size)
        return self.mark(block, size)

    @rule(target=blocks, size=SIZES, shift=st.integers(4, 20))
    def alloc_aligned(self, size, shift):
        block = self.heap.alloc(size, alignment=1 << shift)
        assert block not in self.model and block % (1 << shift) == 0
        return self.mark(block, size)

    @rule(target=blocks, count=st.integers(50, 400), size=st.integers(1, 400))
    def alloc_many(self, count, size):
        made = [self.mark(self.heap.alloc(size), size) for _ in range(count)]
        for block in made[1:-1]:  # leaves the first and the last: holes for the purge
            self.check(block)
            del self.model[block]
            self.heap.free(block)
        self.check(made[-1])
        del self.model[made[-1]]
        self.heap.free(made[-1])
        return made[0]

    @rule(target=blocks, block=consumes(blocks), size=SIZES)
    def realloc(self, block, size):
        held = self.model.pop(block)
        moved = self.heap.realloc(block, size)
        assert moved not in self.model
        assert self.heap.read(moved, min(len(held), size)) == held[:size]
        return self.mark(moved, size)

    @rule(block=consumes(blocks))
    def free(self, block):
        self.check(block)
        del self.model[block]
        self.heap.free(block)

    @rule(hint=st.sampled_from(list(Hint)), value=st.integers(0, 2**64 - 1))
    def hint(self, hint, value):
        if hint not in (Hint.FORK_BEFORE, Hint.FORK_CHILD):
            self.heap.hint(hint, value)

    @rule(budget=st.one_of(st.none(), st.integers(0, 1 << 22)))
    def trim(self, budget):
        returned = self.heap.trim(budget)
        assert budget is None or returned <= budget

    @rule(block=blocks)
    def check(self, block):
        assert self.heap.read(block, len(self.model[block])) == self.model[block]

    @invariant()
    def audit(self):
        self.heap.audit()
        stats = self.heap.stats()
        walked = self.heap.walk()
        assert {address for address, _, _ in walked} == set(self.model)
        assert stats["live_blocks"] == len(walked)
        assert stats["live_bytes"] == sum(usable for _, usable, _ in walked)

    def teardown(self):
        for block, data in self.model.items():
            assert self.heap.read(block, len(data)) == data
        self.heap.close()


HeapMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHeapModel = HeapMachine.TestCase
