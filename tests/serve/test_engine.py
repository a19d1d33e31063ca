"""The server's engine around a real model: the same summaries, and it stops when told."""

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.serve.engine import ModelEngine
from pyramidion_fairseq.serve.worker import Stop, Stopped
from pyramidion_fairseq.text import Document
from tests.summaries import article

GENERATION = {"max_len_b": 12, "min_len": 4}


class StopAfter(Stop):
    """Says to stop at its n-th call, and counts them."""

    def __init__(self, calls):
        super().__init__()
        self.calls, self.left = 0, calls

    def __call__(self):
        self.calls += 1
        if self.calls == self.left:
            self.set()
        super().__call__()


@pytest.fixture(scope="module")
def hub(summarizers):
    return summarizers()


def test_engine_explains_as_the_model_does(hub):
    document = Document.from_text(article(12), "A title")
    engine = ModelEngine(hub, **GENERATION)  # with whose hooks the model generates with fairseq's caches
    (expected,) = hub.summarize(document, with_provenance=True, **GENERATION)
    assert engine(document, Stop()) == expected.explain()


def test_engine_stops_within_a_layer_and_serves_the_next(hub):
    engine, document = ModelEngine(hub, **GENERATION), Document.from_text(article(12))
    counting = StopAfter(-1)
    expected = engine(document, counting)
    layers = sum(len(model.encoder.layers) for model in hub.models)
    assert counting.calls > 10 * layers  # every layer of every step asks
    for calls in (1, layers + 1, counting.calls // 2, counting.calls):
        stop = StopAfter(calls)
        with pytest.raises(Stopped):
            engine(document, stop)
        assert stop.calls == calls
        assert engine(document, Stop()) == expected


def test_engine_refuses_what_it_cannot_read(hub):
    with pytest.raises(PyramidionError, match="empty"):
        ModelEngine(hub, **GENERATION)(Document.from_text("   "), Stop())


def test_server_around_a_real_model(hub, serve):
    client = serve(using=ModelEngine(hub, **GENERATION))
    status, answer = client.json({"text": article(12)})
    (expected,) = hub.summarize(article(12), with_provenance=True, **GENERATION)
    assert status == 200 and answer["summary"] == expected.text
    for text in ("word", "\u202e \U0001f600 <b>", "x" * 100_000, "a b " * 50_000):
        assert client.form(text)[0] == 200, text[:20]
    assert client.json({"text": " \u200b "})[0] == 422
    assert client.json({"text": article(12)})[1] == answer
