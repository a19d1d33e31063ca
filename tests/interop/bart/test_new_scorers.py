"""Tests of a pooling that is added to a trained model: its loss at the start and after updates."""

import pytest
import torch
from fairseq.checkpoint_utils import load_model_ensemble
from torch.nn import functional

from tests.helpers import learned
from tests.helpers.models import make_dictionary
from tests.helpers.summaries import write_checkpoint

pytestmark = pytest.mark.soak  # it trains


@torch.no_grad()
def loss_of(model):
    """Return the loss in nats per word on documents that are not trained on."""
    documents, summaries = learned.draw(512, torch.Generator().manual_seed(9))
    logits = model.eval()(documents, None, functional.pad(summaries[:, :-1], (1, 0), value=2))[0]
    return functional.cross_entropy(logits.flatten(0, 1), summaries.flatten()).item()


def test_new_pooling_starts_with_a_low_loss_and_learns_faster_than_a_flat_one(tmp_path):
    for side in ("source", "target"):
        make_dictionary(learned.SPECIAL + learned.WORDS).save(str(tmp_path / f"dict.{side}.txt"))

    def model(**options):
        path = write_checkpoint(tmp_path, **{**learned.SIZE, "block_size": learned.LENGTH, **options})
        return load_model_ensemble([path])[0][0]

    unpooled, pooled = model(pooling_schedule=""), model(pooling_schedule="2:32")
    learned.train(unpooled, 800)
    starts, tuned, blurred = [], [], []
    for seed in range(3):
        scorer = pooled.encoder.poolings["2"].scorer
        torch.manual_seed(seed)
        scorer.proj.reset_parameters()
        pooled.load_state_dict(unpooled.state_dict(), strict=True)  # which spreads the scorer
        starts.append(loss_of(pooled))
        learned.train(pooled, 40, rate=1e-3)
        tuned.append(loss_of(pooled))
        pooled.load_state_dict(unpooled.state_dict(), strict=True)
        with torch.no_grad():
            scorer.proj.weight.mul_(1e-3)
            scorer.proj.bias.zero_()
        learned.train(pooled, 40, rate=1e-3)
        blurred.append(loss_of(pooled))
    before, start, after, blur = loss_of(unpooled), *(sum(losses) / 3 for losses in (starts, tuned, blurred))
    print(f"unpooled {before:.2f}; new pooling {start:.2f}, after 40 updates {after:.2f}; of a blur {blur:.2f}")
    assert before < 0.6 and start < 1.4  # an untrained model has log(32) = 3.5
    assert after < 0.7 and after < 0.85 * blur
