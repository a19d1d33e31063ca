"""Write small classifiers to files, as training does."""

import torch

from pyramidion_fairseq import class_labels, vocabularies
from pyramidion_fairseq.checkpoints import new_checkpoint
from pyramidion_fairseq.interop import dictionary_files
from pyramidion_fairseq.models.encoder_config import FIELDS
from tests.helpers.bart import randomise
from tests.helpers.preprocessing import WORDS as NAMES
from tests.helpers.roberta import HEAD, build

SYMBOLS = [*dictionary_files.SPECIALS, *NAMES, *(f"w{i}" for i in range(60 - 5 - len(NAMES))), "<mask>"]
LABELS = ["7", "World\u2581News", "cs.CL"]


def write_classifier(folder, labels=LABELS, regression=False, carries=True, task=None, monkeypatch=None, **options):
    """Write a classifier whose tokens are words; return its path and the model.

    Without ``carries`` the checkpoint has no labels, as older code writes it.
    """
    import tests.helpers.roberta as helpers

    dictionary = dictionary_files.make_dictionary(SYMBOLS)
    stock, helpers.task_of = helpers.task_of, lambda _: type("Task", (), {"source_dictionary": dictionary})()
    try:
        model = randomise(build(classes=1 if regression else 3, **options))
    finally:
        helpers.task_of = stock
    given = {name: getattr(model.args, name) for name in FIELDS}
    extra_state = {vocabularies.KEY: vocabularies.describe(SYMBOLS, SYMBOLS)}
    if carries and not regression:
        extra_state[class_labels.KEY] = class_labels.for_checkpoint(labels, HEAD)
    settings = {"_name": "sentence_prediction", "classification_head_name": HEAD, "init_token": 0}
    cfg = {
        "model": {"_name": "lsg_roberta_base", **given},
        "task": {**settings, "separator_token": 2, "data": str(folder), **(task or {})},
        "criterion": {"_name": "sentence_prediction", "regression_target": regression},
    }
    path = folder / "checkpoint_best.pt"
    torch.save(new_checkpoint(cfg, model.state_dict(), extra_state), path)
    return path, model
