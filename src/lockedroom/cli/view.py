"""`lockedroom view`: reports in a browser, served to this machine only."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "view",
        help="browse the reports of a folder of runs, on this machine only",
        description="Serves on the loopback address; stop it with Ctrl-C. Needs the extra [report].",
    )
    parser.add_argument(
        "folder", nargs="?", default="runs", metavar="FOLDER", help="where the runs are (default: runs)"
    )
    parser.add_argument("--port", type=int, default=8765, metavar="P", help="default 8765; 0 takes a free one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; exit 0."""
    from lockedroom.report.serving import HOST, open_server

    with open_server(Path(args.folder), args.port) as server:
        try:
            print(f"http://{HOST}:{server.server_address[1]}/  (Ctrl-C stops it)", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")
    return 0
