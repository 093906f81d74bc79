"""A worker that takes jobs from a queue: python jobs.py PORT

A line "small NUMBER" or "large NUMBER" comes by a socket, and a line goes back. A large job reads its upload as JSON
and then as CSV, as imports of files do.
"""

import csv
import io
import json
import signal
import socketserver
import sys

import work


def large(number):
    records = json.loads(work.upload(number))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    return work.large(number) + " %d %d" % (len(rows), sum(len(row["note"]) for row in rows))


REQUESTS = {**work.REQUESTS, "large": large}


class Queue(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            kind, number = line.decode().split()
            answer = REQUESTS[kind](int(number))
            self.wfile.write(answer.encode() + b"\n")
            self.wfile.flush()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Server(("127.0.0.1", int(sys.argv[1])), Queue).serve_forever()
