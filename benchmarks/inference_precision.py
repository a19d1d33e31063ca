"""Compare DeepPyramidion's encoding and generation in float32 and in another precision: the effect of ``--dtype``.

    python benchmarks/inference_precision.py --output benchmarks/results/inference_precision_cpu

Models have full width and random weights, documents have 8192 tokens. Generation includes encoding. To see how the
precision changes summaries, compare the outputs of ``pyramidion-summarize --dtype`` with ``pyramidion-rouge
--against``.
"""

from __future__ import annotations

from typing import Any, Callable

import measure
import peer_models
from peer_models import Sizes

MODEL = "deeppyramidion"


def calls(precision: str, args: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls to time for a model with weights and states in a precision."""
    sizes = Sizes(args.width, args.length, target=max(512, args.tokens))
    model = peer_models.build(MODEL, sizes, args.device).model
    peer_models.for_generation(model, precision)
    one, many = (peer_models.documents(count, sizes, args.device) for count in (1, args.batch))
    return {
        f"encoding 1 x {args.length:,} tokens": peer_models.encoding(MODEL, model, one),
        f"generation: {args.batch} documents, {args.tokens} tokens, beam 2": peer_models.generating(
            MODEL, model, many, args.tokens, 2
        ),
    }


def main() -> None:
    """Run the command line; see the file's docstring."""
    arguments = measure.parser(__doc__, rounds=3, precisions=("bf16", "fp16"), sizes=())
    arguments.add_argument("--width", type=int, default=768, help="width of the model (768)")
    arguments.add_argument("--length", type=int, default=8192, help="tokens of a document (8192)")
    arguments.add_argument("--batch", type=int, default=2, help="documents per batch (2)")
    arguments.add_argument("--tokens", type=int, default=32, help="tokens of each summary (32)")
    args = measure.parse(arguments)
    if args.length < 64 or args.length % 64 or args.width < 8 or args.width % 8 or args.batch < 1 or args.tokens < 2:
        arguments.error("--length must be a multiple of 64, --width of 8; --batch at least 1, --tokens at least 2")
    other = "bf16" if args.precision == "float32" else args.precision
    made = {precision: calls(precision, args) for precision in ("float32", other)}
    found, rows = {}, []
    for work in made["float32"]:
        variants = {precision: of[work] for precision, of in made.items()}
        found[work] = measure.alternate(variants, args.rounds, args.device)
        plain, fast = (found[work][precision] for precision in made)
        rows.append([work, plain.median, fast.median, plain.median / fast.median, fast.rounds])
    headers = ["work", "float32: median s", f"{other}: median s", "times as fast", "rounds"]
    table = f"## float32 and {other}\n\n{measure.table(headers, rows)}"
    measure.report("inference_precision", args.device, found, [table], args.output, precision=other)


if __name__ == "__main__":
    main()
