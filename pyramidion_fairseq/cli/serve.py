"""``pyramidion-serve``: a page to paste or upload documents and see where their summaries come from."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from typing import Any

from ..errors import PyramidionError
from ..utils import interrupts
from .common import Parser, add_generation_options, add_model_options, generation_of, load, one_line_exit_and_log

logger = logging.getLogger("pyramidion_fairseq.cli.serve")  # also where it is run as __main__

COMMAND = "pyramidion-serve"
#: Of a request, which is in memory as a whole.
MOST_MB = 2**20


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = Parser(
        prog=COMMAND,
        description="Serve a form for documents and reports of their summaries, and the same as JSON under "
        "/api/summarize. One document is summarised at a time.",
    )
    add_model_options(parser)
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this computer alone)")
    group.add_argument("--port", type=int, default=8080, help="port to listen at; 0: any free one (8080)")
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name that browsers may use; repeatable"
    )
    group = parser.add_argument_group("limits")
    group.add_argument("--max-mb", type=float, default=10, help="size of a request in MB (10)")
    group.add_argument("--max-words", type=int, default=200_000, help="words of a document (200000)")
    group.add_argument("--max-documents", type=int, default=8, help="documents of an upload (8)")
    group.add_argument("--queue", type=int, default=4, help="requests that wait while one runs (4)")
    group.add_argument("--timeout", type=float, default=300, help="seconds until an answer, waiting included (300)")
    add_generation_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command until SIGINT or SIGTERM, then end with status 0."""
    with one_line_exit_and_log(COMMAND):
        args = build_parser().parse_args(argv)
        try:
            from ..apps.serve.app import build_app
            from ..apps.serve.engine import ModelEngine
        except ImportError as error:
            raise PyramidionError(f'{error.name} is not installed: pip install "pyramidion_fairseq[serve]"') from None
        limits = _limits(args)
        listener = _listen(args.host, args.port)
        engine = ModelEngine(load(args), **generation_of(args))
        name = os.path.basename(os.path.abspath(args.checkpoint.split(os.pathsep)[0]))
        app = build_app(engine, limits, name, engine.max_tokens, args.allow_host)
        _serve(app, listener, args.host)


def _limits(args: argparse.Namespace) -> Any:
    from ..apps.serve.limits import Limits

    least = {"max_mb": 0.001, "max_words": 1, "max_documents": 1, "queue": 0, "timeout": 1}
    for name, value in least.items():
        if not getattr(args, name) >= value:  # also where it is NaN
            raise PyramidionError(f"--{name.replace('_', '-')} must be at least {value}, got {getattr(args, name)}")
    if args.max_mb > MOST_MB:
        raise PyramidionError(f"--max-mb must be at most {MOST_MB:,}, got {args.max_mb}")
    for name in args.allow_host:
        if not re.fullmatch(r"[\w.-]+|[\da-fA-F:]+", name, re.ASCII):
            raise PyramidionError(
                f"--allow-host takes a name such as box.example, without http:// and port, got {name!r}"
            )
    return Limits(int(args.max_mb * 2**20), args.max_words, args.max_documents, args.queue, args.timeout)


def _listen(host: str, port: int) -> socket.socket:
    """Return the socket, before the model is loaded: a port that is taken is told at once."""
    if not 0 <= port <= 65535:  # some systems' getaddrinfo would take the rest of a division
        raise PyramidionError(f"cannot listen at {host}, port {port}: --port goes from 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except UnicodeError:  # part of it is empty or too long
        raise PyramidionError(f"cannot listen at {host}, port {port}: that is no name of a host") from None
    except OSError as error:
        reason = error.strerror or error
        raise PyramidionError(
            f"cannot listen at {host}, port {port}: {reason}; choose another --port, or another --host"
        ) from None
    return listener


def configure(app: Any) -> Any:
    """Return uvicorn's settings: no access log, no websockets, time limits for slow clients."""
    import uvicorn

    from ..apps.serve.limits import CONNECTIONS, SHUTDOWN_SECONDS
    from ..apps.serve.protocol import ImpatientProtocol

    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _serve(app: Any, listener: socket.socket, host: str) -> None:
    from ..apps.serve.protocol import PatientServer

    address, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        logger.warning(f"{host} can be reached from other computers: no password is asked, nothing is encrypted")
    server = PatientServer(configure(app))
    interrupts.check()
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them once more when it has shut down
        signal.signal(number, lambda *_: sys.exit(0))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logger.info(f"serving at http://{f'[{address}]' if ':' in address else address}:{port}; Ctrl-C ends it")
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
