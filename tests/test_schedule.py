"""Tests of the pooling schedule: parsing, lengths and errors."""

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.schedule import PoolingSchedule


@pytest.mark.paper("pyramidion", "encoder-2.5x", "deep-schedule")
def test_deeppyramidion_schedule_gives_the_published_lengths():
    schedule = PoolingSchedule.parse(" 2:2048, 3:512 ")
    assert schedule.steps == ((2, 2048), (3, 512))
    assert str(schedule) == "2:2048,3:512"
    assert schedule.input_lengths(8192, 6) == (8192, 8192, 2048, 512, 512, 512)
    assert schedule.input_lengths(1000, 6) == (1000, 1000, 1000, 512, 512, 512)
    assert schedule.output_length(8192) == 512 and schedule.output_length(100) == 100
    # The paper claims 2.5x in the encoder's self-attention, counted by the inputs of layers.
    assert round(6 * 8192 / sum(schedule.input_lengths(8192, 6)), 3) == 2.462


def test_empty_schedule_never_pools():
    schedule = PoolingSchedule.parse("")
    assert schedule.steps == () and schedule.input_lengths(9, 2) == (9, 9) and schedule.output_length(9) == 9


@pytest.mark.parametrize(
    "text, message",
    [
        ("2", "is not of the form"),
        ("2:2048;3:512", "is not of the form"),
        ("2:2048,", "is not of the form"),
        ("__import__('os')", "is not of the form"),
        ("3:512,2:128", "layers must ascend"),
        ("2:512,2:128", "layers must ascend"),
        ("0:512", "counted from 1"),
        ("2:512,3:512", "lengths must descend"),
        ("2:0", "at least 1"),
    ],
)
def test_invalid_schedules_are_refused(text, message):
    with pytest.raises(PyramidionError, match=message):
        PoolingSchedule.parse(text)


def test_check_source_refuses_to_keep_more_tokens_than_documents_have():
    with pytest.raises(PyramidionError, match="keeps 2048 tokens after layer 2, but documents have at most 1024"):
        PoolingSchedule.parse("2:2048,3:512").check_source(1024)
    PoolingSchedule.parse("2:2048,3:512").check_source(2048)


def test_check_layers_refuses_too_few_layers():
    with pytest.raises(PyramidionError, match="pools after layer 3, but the encoder has 2 layers"):
        PoolingSchedule.parse("2:8,3:4").check_layers(2)


@pytest.mark.paper("cut-in-four", "funnel")
def test_windows_are_the_pooling_ratios_at_full_length():
    assert PoolingSchedule.parse("2:2048,3:512").windows(8192) == {2048: 4, 512: 4}
    assert PoolingSchedule.parse("1:512").windows(8192) == {512: 16}  # "16 consecutive tokens", Appendix C.1
    assert PoolingSchedule.parse("1:12,2:5").windows(64) == {12: 6, 5: 3}
    assert PoolingSchedule.parse("1:12").windows(3) == {12: 1} and PoolingSchedule().windows(3) == {}


@pytest.mark.paper("fig-1d")
@pytest.mark.parametrize(
    "length, layers, text",
    [(8192, 3, "1:4096,2:2048,3:1024"), (100, 4, "1:50,2:25,3:13,4:7"), (4, 6, "1:2,2:1"), (1, 2, "")],
)
def test_halve_schedule_halves_after_every_layer(length, layers, text):
    """Check Figure 1 D, and that pooling ends at one token."""
    schedule = PoolingSchedule.of(" halve ", length, layers)
    assert str(schedule) == text
    assert PoolingSchedule.of(text, 7, 7) == schedule  # a full schedule does not depend on the model
    with pytest.raises(PyramidionError, match='nor "halve"'):
        PoolingSchedule.of("halves", length, layers)
