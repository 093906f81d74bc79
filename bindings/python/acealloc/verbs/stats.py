"""`ace stats`: the statistics of running processes, for people and for programs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, List, Tuple

from ..console import print_error, print_out, warning
from ..errors import Failure
from ..render_watched import process_view
from ..watched import CannotWatch, WatchedProcess, watch_each, watchable

NOBODY = "no process has a statistics page: start one by `ace run --stats-page on -- COMMAND`"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "stats",
        help="show the statistics of running processes",
        allow_abbrev=False,
        description="Asks the processes PID, or all that were started with option stats_page, what their heaps consist "
        "of. Nothing is stopped for it.",
    )
    add_pids(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--openmetrics", action="store_true", help="as OpenMetrics text")
    form.add_argument("--textfile", metavar="PATH", help="write them, whole or not at all, where node_exporter's "
                      "textfile collector finds them (PATH ends in .prom)")  # fmt: skip
    form.add_argument("--serve", metavar="ADDRESS:PORT", type=address, help="answer Prometheus there until interrupted")
    parser.set_defaults(main=main)


def add_pids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pids", nargs="*", type=int, metavar="PID", help="a process; default: all that can be watched")


def address(text: str) -> Tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not host or not colon or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("'%s' is no ADDRESS:PORT, such as 127.0.0.1:9700" % text)
    return host.strip("[]"), int(port)


def main(arguments: argparse.Namespace) -> int:
    if arguments.textfile and not arguments.textfile.endswith(".prom"):
        raise Failure("%s: node_exporter reads only files that end in .prom" % arguments.textfile, 2)
    if arguments.serve:
        host, port = arguments.serve
        return serve(host, port, arguments.pids)
    processes = ask(arguments.pids)
    if arguments.openmetrics or arguments.textfile:
        return export(processes, arguments.textfile)
    if not processes and not arguments.json:
        if watchable():  # it was said why they cannot be watched
            return 1
        raise Failure(NOBODY)
    if arguments.json:
        objects = [as_object(process) for process in processes]
        print(json.dumps(objects[0] if len(arguments.pids) == 1 else {"processes": objects}, indent=2))
        return 0
    for process in processes:
        print_out(process_view(process))
    return 0


def ask(pids: List[int]) -> List[WatchedProcess]:
    """The processes. Failure where one that was named cannot be watched; of all that there are, such are left out, and
    it is said why."""
    processes = []
    for found in watch_each(list(dict.fromkeys(pids)) or watchable()):
        if isinstance(found, WatchedProcess):
            processes.append(found)
        elif pids:
            raise Failure(str(found))
        else:
            print_error(warning(str(found)))
    return processes


def as_object(process: WatchedProcess) -> Dict[str, Any]:
    return {
        "pid": process.pid,
        "host": process.host,
        "command": process.command,
        "version": process.ace,
        "started": round(process.started, 2),
        "left_out": process.left_out,
        "heaps": [{"name": heap.name, **heap.stats} for heap in process.heaps()],
    }


# What follows needs prometheus_client, which takes longer to load than the rest of `ace`.


def export(processes: List[WatchedProcess], path: str) -> int:
    from prometheus_client import write_to_textfile
    from prometheus_client.openmetrics.exposition import generate_latest

    from ..metrics import registry_of

    registry = registry_of(lambda: processes)
    if not path:
        sys.stdout.write(generate_latest(registry).decode())
        return 0
    try:
        write_to_textfile(path, registry)
    except OSError as error:
        raise Failure("%s cannot be written: %s" % (path, error.strerror)) from error
    return 0


def serve(host: str, port: int, pids: List[int]) -> int:
    from prometheus_client import start_http_server

    from ..metrics import registry_of

    def watched() -> List[WatchedProcess]:
        several = list(dict.fromkeys(pids)) or watchable()
        return [found for found in watch_each(several) if not isinstance(found, CannotWatch)]

    try:
        server, thread = start_http_server(port, host, registry_of(watched))
    except OSError as error:
        raise Failure("%s:%d cannot be served: %s" % (host, port, error.strerror)) from error
    shown = "[%s]" % host if ":" in host else host
    print("ace stats: serving http://%s:%d/metrics" % (shown, server.server_port), file=sys.stderr, flush=True)
    try:
        thread.join()
    finally:
        server.shutdown()
    return 0
