import pytest

from pyramidion_fairseq.prepare.options import parse_options


@pytest.mark.paper("hp-vocabulary")
def test_prepare_options_have_the_papers_defaults():
    args = parse_options(["dest", "--train", "a"])
    assert (args.vocab_size, args.spm_type, args.seed, args.max_bad_fraction) == (32000, "unigram", 1, 0.1)
    assert (args.max_source_positions, args.max_target_positions) == (8192, 1024)
    assert (args.valid_fraction, args.test_fraction, args.lowercase, args.format) == (0.05, 0.05, False, "auto")


def test_inputs_user_symbols_and_case_options_are_parsed():
    args = parse_options(
        ["d", "--input", "a", "b", "--user-symbols", "<dig>, <CIT>,<dig>", "--lowercase", "--keep-case"]
    )
    assert args.input == ["a", "b"]
    assert args.user_symbols == ["<dig>", "<CIT>"]
    assert args.lowercase is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("d", "give exactly one of"),
        ("d --train a --input b", "give exactly one of"),
        ("d --train a --python-docs", "give exactly one of"),
        ("d --input a --valid b", "--valid and --test require --train"),
        ("d --input a --valid-fraction 0.5 --test-fraction 0.5", "leave no training documents"),
        ("d --input a --valid-fraction 2", "2 is not between 0 and 1"),
        ("d --input a --vocab-size 0", "0 is not a positive integer"),
        ("d --input a --spm-model /nowhere/x.model", "no such file"),
        ("d --input a --format xml", "invalid choice"),
        ("d --input a --user-symbols a\u00a0b", "'a\\xa0b' is changed when text is cleaned, so no text contains it"),
        ("d --input a --user-symbols <dig>,<S>", "'<S>' is changed when text is cleaned, so no text contains it"),
        ("d --input a --user-symbols <dig>,<pad>", "<pad> is a special symbol of fairseq: in text it becomes <unk>"),
        (
            "d --input a --lowercase --user-symbols <DIG>,<cit>",
            "--user-symbols <DIG>: --lowercase removes capitals, give <dig>",
        ),
        ("d:e/f --input a", "DEST d:e/f contains ':', where fairseq would split it"),
    ],
)
def test_invalid_options_exit_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        parse_options(arguments.split(" "))
    assert error.value.code == 2
    assert message in capsys.readouterr().err
