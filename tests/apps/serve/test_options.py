"""Tests of the generation options that a request may set."""

import pytest

from tests.helpers.servers import GOOD


def test_generation_options_of_a_request_reach_the_engine(serve, engine):
    client = serve()
    for fields, expected in [
        ({"beam": 4, "min_len": "5", "max_len_b": 1024}, {"beam": 4, "min_len": 5, "max_len_b": 1024}),
        ({"beam": None, "min_len": "", "lenpen": 3}, {}),
    ]:
        assert client.json({"text": GOOD, **fields})[0] == 200 and engine.generation == expected
    assert client.form(GOOD)[0] == 200 and engine.generation == {}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"beam": 17}, "The beam size must be an integer from 1 to 16."),
        ({"beam": 0}, "The beam size must be an integer from 1 to 16."),
        ({"beam": True}, "The beam size must be an integer"),
        ({"beam": 1.5}, "The beam size must be an integer"),
        ({"beam": []}, "The beam size must be an integer"),
        ({"max_len_b": "\u0664"}, "The maximum length must be an integer from 1 to 1,024."),
        ({"min_len": "-3"}, "The minimum length must be an integer"),
        ({"min_len": 9, "max_len_b": 8}, "The minimum length is above the maximum length"),
    ],
)
def test_invalid_generation_options_are_refused(serve, engine, fields, message):
    status, answer = serve().json({"text": GOOD, **fields})
    assert status == 422 and answer["error"]["code"] == "bad-option" and message in answer["error"]["message"]
    assert engine.events == []
