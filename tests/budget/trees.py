"""Trees that come and go, with the strings and the lists that grow of an ordinary program."""


class Node:
    def __init__(self, depth):
        self.depth = depth
        self.children = [Node(depth - 1), Node(depth - 1)] if depth else None


words = []
for turn in range(8):
    root = Node(11)
    for i in range(2000):
        words.append("word %d.%d" % (turn, i))
    if turn % 4 == 3:
        words.clear()
print("done")
