"""``fairseq-generate --scoring rouge``."""

# No postponed annotations: fairseq reads the config's types.
from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer

from .rouge import BACKENDS, TOKENIZERS, RougeScores, RougeSettings, rouge_scores

#: How fairseq writes an unknown word of a reference, ``<unk>`` with brackets around it, and what stands for it here:
#: without brackets it would count as the word that an unknown word of a hypothesis is, ``<unk>``.
_UNKNOWN_IN_REFERENCE = ("<<unk>>", "unknownwordofreference")


@dataclass
class RougeScorerConfig(FairseqDataclass):
    """Options of ``--scoring rouge``."""

    rouge_backend: ChoiceEnum(list(BACKENDS)) = field(default="rouge-score", metadata={"help": "what computes ROUGE"})
    rouge_no_stemming: bool = field(default=False, metadata={"help": "compare words, not their stems"})
    rouge_separator: Optional[str] = field(
        default=None, metadata={"help": "what separates the sentences of a summary (default: found by their marks)"}
    )
    rouge_samples: int = field(default=1000, metadata={"help": "resamples of the bootstrap"})
    rouge_seed: int = field(default=1, metadata={"help": "seed of the bootstrap"})
    rouge_tokenizer: ChoiceEnum(list(TOKENIZERS)) = field(
        default="rouge-score", metadata={"help": "what words are: of a to z and 0 to 9; unicode: of any script"}
    )


@register_scorer("rouge", dataclass=RougeScorerConfig)
class RougeScorer(BaseScorer):
    """ROUGE of the generated summaries against the references as the model reads them.

    These are cut to ``--max-target-positions`` and have been through the vocabulary; ``pyramidion-rouge`` on the text
    files scores against the whole ones. Whatever ``--bpe`` or ``--remove-bpe`` gives back is scored.
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
        """Add a document: its reference and its summary."""
        super().add_string(ref.replace(*_UNKNOWN_IN_REFERENCE), pred)

    def scores(self) -> RougeScores:
        """Score all documents so far; PyramidionError where there are none."""
        return rouge_scores(self.ref, self.pred, self.settings)

    def score(self) -> float:
        """Return F1 of ROUGE-2, in points."""
        return self.scores().get("rouge2")[0]

    def result_string(self) -> str:
        """Return F1 of every variant with its interval, and the signature."""
        if not self.ref:
            return "ROUGE: no document was generated"
        scores = self.scores()
        return f"{scores} | {scores.signature}"
