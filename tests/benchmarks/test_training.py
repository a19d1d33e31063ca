"""Tests of benchmarks/training.py, which measures the paper's models: rows, sizes, and notes of its tables."""

import pytest

from pyramidion_fairseq.schedule import PoolingSchedule


@pytest.fixture(scope="module")
def training():
    import training

    return training


@pytest.mark.paper("sparse-train-faster", "pooling-overhead", "row-24-times", "block-128")
def test_training_column_has_rows_1_to_32(training):
    column = training.training_column()
    assert [row for row, _, _ in column] == list(range(1, 33))
    assert {arch: theirs for _, arch, theirs in column}["transpooler_8k_2k"] == 1.26
    assert training.published_shares()["vanilla_8k"] == 1


@pytest.mark.paper("fig-4", "depth-logarithmic")
def test_figure_4_pools_8192_tokens_to_512_in_up_to_16_layers(training):
    assert training.DEPTHS[-1] == 16 and 4 in training.DEPTHS
    for layers in training.DEPTHS:
        schedule = PoolingSchedule.parse(training.FIGURE_SCHEDULE)
        assert schedule.input_lengths(8192, layers)[0] == 8192 and schedule.output_length(8192) == 512


@pytest.mark.paper("claim-speed")
def test_deep_models_have_the_sizes_of_the_paper(training):
    """Check the undivided models of the part "deep": 6+6 layers of width 768 that read 8192 tokens."""
    for arch, schedule in (("deeppyramidion", "2:2048,3:512"), ("deep_blockwise", "")):
        options = training.workload.divided(arch, 1)
        assert (options["max_source_positions"], options["encoder_embed_dim"]) == (8192, 768)
        assert options["pooling_schedule"] == schedule


def test_divided_models_keep_the_ratios_of_their_schedules(training):
    """Check that schedules are divided like lengths, including those derived from the length."""
    assert training.workload.divided("transpooler_8k_2k", 4)["pooling_schedule"] == "2:512"
    halved = training.workload.divided("pyramidion_8k_4k_2k_1k", 2)
    assert (halved["max_source_positions"], halved["pooling_schedule"]) == (4096, "1:2048,2:1024,3:512")


@pytest.mark.paper("hardware")
def test_note_of_the_column_names_the_machine_and_the_tournament_rows(training):
    """Check the machine of appendix D.2; rows without successive halving have no tournament."""
    note = training.note_of_the_column(documents=1, factor=2)
    assert "A100" in note and "does not name" not in note and "does not name" not in training.__doc__
    assert training.tournament_rows() == [6, 7, 8, *range(21, 27), 30, 31, 32]
    assert "6 to 8, 21 to 26 and 30 to 32" in note
