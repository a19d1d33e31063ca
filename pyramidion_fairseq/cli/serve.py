"""``pyramidion-serve``: a web page to paste or upload documents and see their summaries with the sources."""

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

logger = logging.getLogger("pyramidion_fairseq.cli.serve")  # also when run as __main__

COMMAND = "pyramidion-serve"
#: The largest --max-mb: a request is held in memory as a whole.
MOST_MB = 2**20


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = Parser(
        prog=COMMAND,
        description="Serve a web form that summarises documents and shows the sources of each summary, and the same "
        "as JSON at /api/summarize. Documents are summarised one at a time.",
    )
    add_model_options(parser)
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, only this computer can connect)"
    )
    group.add_argument("--port", type=int, default=8080, help="port to listen on; 0: any free port (default: 8080)")
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="additional host name that browsers may use for this server; can be given several times",
    )
    group = parser.add_argument_group("limits")
    group.add_argument("--max-mb", type=float, default=10, help="maximum size of a request in MB (default: 10)")
    group.add_argument("--max-words", type=int, default=200_000, help="maximum words per document (default: 200000)")
    group.add_argument("--max-documents", type=int, default=8, help="maximum documents per request (default: 8)")
    group.add_argument("--queue", type=int, default=4, help="maximum number of waiting requests (default: 4)")
    group.add_argument(
        "--timeout", type=float, default=300, help="maximum seconds per request, including waiting (default: 300)"
    )
    add_generation_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the server until SIGINT or SIGTERM, then exit with status 0."""
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
        if not getattr(args, name) >= value:  # "not >=" also refuses NaN
            raise PyramidionError(f"--{name.replace('_', '-')} must be at least {value}, got {getattr(args, name)}")
    if args.max_mb > MOST_MB:
        raise PyramidionError(f"--max-mb must be at most {MOST_MB:,}, got {args.max_mb}")
    for name in args.allow_host:
        if not re.fullmatch(r"[\w.-]+|[\da-fA-F:]+", name, re.ASCII):
            raise PyramidionError(
                f"--allow-host must be a host name such as box.example, without http:// and port, got {name!r}"
            )
    return Limits(int(args.max_mb * 2**20), args.max_words, args.max_documents, args.queue, args.timeout)


def _listen(host: str, port: int) -> socket.socket:
    """Open the server's socket; called before the model is loaded, so that a port in use is reported at once."""
    if not 0 <= port <= 65535:  # getaddrinfo of some systems wraps larger numbers around
        raise PyramidionError(f"cannot listen on {host}, port {port}: --port must be between 0 and 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except UnicodeError:  # a part of the name is empty or too long
        raise PyramidionError(f"cannot listen on {host}, port {port}: invalid host name") from None
    except OSError as error:
        reason = error.strerror or error
        raise PyramidionError(
            f"cannot listen on {host}, port {port}: {reason}; choose another --port or --host"
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
        limit_concurrency=CONNECTIONS + 1,  # uvicorn counts the new connection, too
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _serve(app: Any, listener: socket.socket, host: str) -> None:
    from ..apps.serve.protocol import PatientServer

    address, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        logger.warning(f"other computers may connect to {host}: the server has no password and no encryption")
    server = PatientServer(configure(app))
    interrupts.raise_swallowed()
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again after its shutdown
        signal.signal(number, lambda *_: sys.exit(0))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logger.info(f"serving at http://{f'[{address}]' if ':' in address else address}:{port} (press Ctrl-C to stop)")
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
