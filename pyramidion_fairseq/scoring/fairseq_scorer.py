"""``fairseq-generate --scoring rouge``."""

# No postponed annotations: fairseq reads the config's types.
from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer

from .rouge import BACKENDS, TOKENIZERS, RougeScores, RougeSettings, rouge_scores

#: fairseq writes an unknown word of a reference as ``<<unk>>`` and one of a hypothesis as ``<unk>``. ROUGE would
#: ignore the brackets and count both as the same word, so those of references are replaced.
_UNKNOWN_IN_REFERENCE = ("<<unk>>", "unknownwordofreference")


@dataclass
class RougeScorerConfig(FairseqDataclass):
    """Options of ``--scoring rouge``."""

    rouge_backend: ChoiceEnum(list(BACKENDS)) = field(
        default="rouge-score", metadata={"help": "implementation of ROUGE"}
    )
    rouge_no_stemming: bool = field(default=False, metadata={"help": "do not stem words"})
    rouge_separator: Optional[str] = field(
        default=None, metadata={"help": "separator of sentences (default: split at sentence-ending punctuation)"}
    )
    rouge_samples: int = field(default=1000, metadata={"help": "bootstrap resamples"})
    rouge_seed: int = field(default=1, metadata={"help": "bootstrap seed"})
    rouge_tokenizer: ChoiceEnum(list(TOKENIZERS)) = field(
        default="rouge-score", metadata={"help": "rouge-score: words of a-z and 0-9; unicode: words of any script"}
    )


@register_scorer("rouge", dataclass=RougeScorerConfig)
class RougeScorer(BaseScorer):
    """ROUGE of the generated summaries, with the references as fairseq loads them.

    These references are truncated to ``--max-target-positions`` and restored from ids; to score against the original
    ones, use ``pyramidion-rouge`` on the text files. The texts are those after ``--bpe`` or ``--remove-bpe``.
    """

    def __init__(self, cfg: RougeScorerConfig):
        super().__init__(cfg)
        self.settings = RougeSettings(
            backend=str(cfg.rouge_backend),
            stemming=not cfg.rouge_no_stemming,
            separator=cfg.rouge_separator,
            samples=cfg.rouge_samples,
            seed=cfg.rouge_seed,
            tokenizer=str(getattr(cfg, "rouge_tokenizer", "rouge-score")),
        )

    def add_string(self, ref: str, pred: str) -> None:
        """Add the reference and the summary of a document."""
        super().add_string(ref.replace(*_UNKNOWN_IN_REFERENCE), pred)

    def scores(self) -> RougeScores:
        """Score all documents added so far; raise PyramidionError if there are none."""
        return rouge_scores(self.ref, self.pred, self.settings)

    def score(self) -> float:
        """Return the F1 of ROUGE-2 in points."""
        return self.scores().get("rouge2")[0]

    def result_string(self) -> str:
        """Return the F1 of each ROUGE variant with its interval, and the signature."""
        if not self.ref:
            return "ROUGE: no summaries were generated"
        scores = self.scores()
        return f"{scores} | {scores.signature}"
