"""What the console commands start with.

``import pyramidion_fairseq`` registers everything with fairseq, and takes seconds. It leaves that out where this
module was imported before: a command registers when it loads a model (``pyramidion_fairseq.registered``), and never
for its ``--help``. Programs and ``--user-dir`` import the package itself, not this.
"""

import sys


def classify() -> None:
    """Run ``pyramidion-classify``."""
    from pyramidion_fairseq.cli.classify import main

    main()


def convert() -> None:
    """Run ``pyramidion-convert``."""
    from pyramidion_fairseq.cli.convert import main

    main()


def explain() -> None:
    """Run ``pyramidion-explain``."""
    from pyramidion_fairseq.cli.explain import main

    main()


def prepare() -> None:
    """Run ``pyramidion-prepare``, which needs no torch itself."""
    from pyramidion_fairseq.cli.prepare import main

    sys.exit(main())


def rouge() -> None:
    """Run ``pyramidion-rouge``, which needs neither fairseq nor torch."""
    from pyramidion_fairseq.cli.rouge import main

    main()


def serve() -> None:
    """Run ``pyramidion-serve``."""
    from pyramidion_fairseq.cli.serve import main

    main()


def summaries() -> None:
    """Run ``pyramidion-summaries``, which needs neither fairseq nor torch."""
    from pyramidion_fairseq.cli.summaries import main

    main()


def summarize() -> None:
    """Run ``pyramidion-summarize``."""
    from pyramidion_fairseq.cli.summarize import main

    main()
