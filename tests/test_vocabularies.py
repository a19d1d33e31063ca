"""Tests that dictionaries and sentencepiece models of another training are refused in every command."""

import shutil
from argparse import Namespace

import pytest
import sentencepiece
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary

from pyramidion_fairseq import PyramidionModel, vocabularies
from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli import explain, serve, summarize
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.interop.subwords import find_subwords
from pyramidion_fairseq.text.byte_level import BYTE_LEVEL
from tests.helpers.models import make_dictionary
from tests.helpers.summaries import SENTENCES, article, write_sentencepiece
from tests.helpers.training import ARCH, BEAM, TASK, TRAIN, USER_DIR, write_corpus

WORDS = 40
#: Keeps the few documents, which fairseq's own task would leave out.
EVERY = ["--required-batch-size-multiple", 1]
#: The difference between the dictionaries of training and of the other corpus.
DIFFERENCE = "line 3 has 'w3', not 'w2'"


def swap(folder):
    """Swap two symbols in both dictionaries of a folder, and return it."""
    for side in ("source", "target"):
        path = folder / f"dict.{side}.txt"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines[2:4] = lines[3:1:-1]
        path.write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=WORDS, train=[9] * 6, valid=[9, 5], test=[9, 5])
    return folder


@pytest.fixture(scope="module")
def other(data, tmp_path_factory):
    """Copy the data with another dictionary of the same size."""
    return swap(shutil.copytree(data, tmp_path_factory.mktemp("other") / "data"))


def train(command, data, folder, *options, check=True, task=TASK, **kwargs):
    return command("train", data, *task, *TRAIN, *EVERY, "--save-dir", folder, *options, check=check, **kwargs)


@pytest.fixture(scope="module")
def trained(command, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    train(command, data, folder, "--max-update", 1)
    return folder / "checkpoint_last.pt"


def the_line(done):
    """Check that a command has failed in one line, and return the line."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_checkpoint_records_the_symbols_in_their_order(trained, data):
    symbols = Dictionary.load(str(data / "dict.source.txt")).symbols
    record = load_checkpoint(trained)["extra_state"]["vocabularies"]
    assert record == {"source": "\n".join(symbols), "target": "\n".join(symbols), "sentencepiece": None}


@pytest.mark.parametrize("name", ["generate", "interactive", "validate"])
@pytest.mark.parametrize("task", ["long_document_summarization", "translation"])
def test_stock_commands_refuse_another_dictionary(command, trained, data, other, name, task):
    options = ["--path", trained, "--cpu", *(BEAM if name != "validate" else ["--batch-size", 2])]
    using = [*USER_DIR, "--task", task, *options, *EVERY]
    line = the_line(command(name, other, *using, check=False, stdin="w1\n"))
    assert f"{trained} was trained with another source dictionary than {other}/dict.source.txt: {DIFFERENCE}" in line
    assert "--srcdict" in line
    command(name, data, *using, stdin="w1 w2\n")


def test_ensemble_of_models_with_different_dictionaries_is_refused(command, trained, data, other, tmp_path):
    train(command, other, tmp_path, "--max-update", 1)
    paths = f"{trained}:{tmp_path / 'checkpoint_last.pt'}"
    line = the_line(command("generate", data, *USER_DIR, *TASK, "--path", paths, "--cpu", *BEAM, check=False))
    assert f"{tmp_path / 'checkpoint_last.pt'} was trained with another source dictionary" in line


@pytest.mark.parametrize(
    "ways",
    [
        lambda trained: ["--finetune-from-model", trained],
        lambda trained: ["--restore-file", trained],
        lambda trained: ["--restore-file", trained, "--reset-optimizer", "--reset-dataloader", "--reset-meters"],
    ],
    ids=["fine-tuned", "restored", "restored and reset"],
)
def test_training_from_a_checkpoint_refuses_another_dictionary(command, trained, data, other, tmp_path, ways):
    options = ["--max-update", 2, *ways(trained)]
    line = the_line(train(command, other, tmp_path / "refused", *options, check=False))
    assert f"{trained} was trained with another source dictionary than" in line and DIFFERENCE in line
    assert not list((tmp_path / "refused").glob("*.pt"))
    train(command, data, tmp_path / "taken", *options)
    assert vocabularies.recorded(load_checkpoint(tmp_path / "taken" / "checkpoint_last.pt")["extra_state"])


def test_resuming_with_another_dictionary_is_refused(command, trained, other, tmp_path):
    shutil.copy(trained, tmp_path)
    before = trained.read_bytes()
    line = the_line(train(command, other, tmp_path, "--max-update", 2, check=False))
    assert (
        f"{tmp_path}/checkpoint_last.pt was trained with another source dictionary than" in line
        and "--save-dir" in line
    )
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == before


def test_stock_model_and_task_refuse_another_dictionary(command, data, other, tmp_path):
    arch = TRAIN[: len(USER_DIR)] + TRAIN[len(USER_DIR) + len(ARCH) :] + ["--arch", "transformer_tiny"]
    run = lambda folder, *options, **kwargs: command(  # noqa: E731
        "train", folder, "--task", "translation", *arch, *EVERY, "--save-dir", tmp_path, *options, **kwargs
    )
    run(data, "--max-update", 1)
    assert DIFFERENCE in the_line(run(other, "--max-update", 2, check=False))
    using = [*USER_DIR, "--path", tmp_path / "checkpoint_last.pt", "--cpu", *BEAM, *EVERY]
    assert DIFFERENCE in the_line(command("generate", other, *using, check=False))
    command("generate", data, *using)


@pytest.mark.parametrize("task", ["long_document_summarization", "translation"])
def test_data_shards_with_different_dictionaries_are_refused(command, data, other, tmp_path, task):
    line = the_line(train(command, f"{data}:{other}", tmp_path, "--max-epoch", 2, task=["--task", task], check=False))
    assert f"{other}/dict.source.txt differs from {data}/dict.source.txt: {DIFFERENCE}" in line
    again = shutil.copytree(data, tmp_path / "again")
    train(command, f"{data}:{again}", tmp_path / "save", "--max-epoch", 2, task=["--task", task])


def test_data_folder_with_a_colon_in_its_name_is_refused(command, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "a:b")
    line = the_line(train(command, folder, tmp_path / "save", "--max-update", 1, check=False))
    assert f"{folder} contains ':'" in line and "rename the folder" in line


def test_ema_weights_keep_the_record_of_vocabularies(command, data, tmp_path):
    train(command, data, tmp_path, "--max-update", 1, "--store-ema")
    state = checkpoint_utils.load_ema_from_checkpoint(str(tmp_path / "checkpoint_last.pt"))
    assert vocabularies.recorded(state["extra_state"])


# Sentencepiece models, and the commands of this package


def write_processor(path, **options):
    """Write the sentencepiece model of :func:`tests.helpers.summaries.write_sentencepiece` with other options."""
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 20), model_writer=file, vocab_size=120, hard_vocab_limit=False,
            character_coverage=1.0, minloglevel=2, user_defined_symbols=["<dig>"],
            bos_id=0, pad_id=1, eos_id=2, unk_id=3, **options,
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def pieces(command, tmp_path_factory):
    """Write data-bin/ and a sentencepiece model beside it, and train one update with checkpoints in save/."""
    folder = tmp_path_factory.mktemp("pieces")
    data = folder / "data-bin"
    data.mkdir()
    write_corpus(data, words=WORDS, train=[9] * 6, valid=[9, 5], test=[9, 5])
    write_sentencepiece(data)  # also replaces the dictionaries by larger ones
    shutil.move(data / "sentencepiece.model", folder / "sentencepiece.model")
    train(command, data, folder / "save", "--max-update", 1)
    return folder


@pytest.fixture(scope="module")
def foreign(pieces, tmp_path_factory):
    """Write another sentencepiece model of the same pieces."""
    return write_processor(tmp_path_factory.mktemp("foreign") / "foreign.model", unk_surface="?")


def record_of(folder):
    return vocabularies.recorded(load_checkpoint(folder / "checkpoint_last.pt")["extra_state"])


def test_checkpoint_records_the_sentencepiece_model_of_training(command, pieces, foreign, tmp_path):
    """Check the model beside the data and one given by ``--bpe``."""
    beside = vocabularies.digest(pieces / "sentencepiece.model")
    assert record_of(pieces / "save")["sentencepiece"] == beside != vocabularies.digest(foreign)
    given = ["--bpe", "sentencepiece", "--sentencepiece-model", foreign, "--max-update", 1]
    train(command, pieces / "data-bin", tmp_path / "given", *given)
    assert record_of(tmp_path / "given")["sentencepiece"] == vocabularies.digest(foreign)


def test_sentencepiece_model_of_other_data_is_not_recorded(command, data, pieces, tmp_path):
    """Check a model beside the data that has only one of its symbols."""
    other = shutil.copytree(data, tmp_path / "data")
    for side in ("source", "target"):
        path = other / f"dict.{side}.txt"
        path.write_text(path.read_text().replace("w0 ", "\u2581w0 "), encoding="utf-8")
    shutil.copy(pieces / "sentencepiece.model", tmp_path)
    train(command, other, tmp_path / "save", "--max-update", 1)
    assert record_of(tmp_path / "save")["sentencepiece"] is None


@pytest.mark.parametrize("name", ["generate", "interactive"])
@pytest.mark.parametrize("task", ["long_document_summarization", "translation"])
def test_stock_commands_refuse_another_sentencepiece_model(command, pieces, foreign, name, task):
    path = pieces / "save" / "checkpoint_last.pt"
    using = [pieces / "data-bin", *USER_DIR, "--task", task, "--path", path, "--cpu", *BEAM, *EVERY, "--bpe"]
    using += ["sentencepiece", "--sentencepiece-model"]
    line = the_line(command(name, *using, foreign, check=False, stdin="pooling\n"))
    assert (
        f"{foreign} is not the sentencepiece model that {path} was trained with; give its path with --sentence" in line
    )
    command(name, *using, pieces / "sentencepiece.model", stdin="pooling\n")


def test_fine_tuning_requires_the_same_sentencepiece_model(command, pieces, foreign, tmp_path):
    shutil.copytree(pieces, tmp_path / "copy")
    shutil.copy(foreign, tmp_path / "copy" / "sentencepiece.model")
    path = pieces / "save" / "checkpoint_last.pt"
    options = ["--finetune-from-model", path, "--max-update", 1]
    line = the_line(train(command, tmp_path / "copy" / "data-bin", tmp_path / "save", *options, check=False))
    assert f"{path} was trained with another sentencepiece model than the data's" in line
    train(command, pieces / "data-bin", tmp_path / "save", *options)


QUICK = ["--device", "cpu", "--min-len", "2", "--max-len-b", "4"]


@pytest.mark.parametrize("main", [summarize.main, explain.main, serve.main], ids=["summarize", "explain", "serve"])
def test_own_commands_refuse_other_dictionaries_and_sentencepiece_models(pieces, foreign, tmp_path, main):
    other = swap(shutil.copytree(pieces / "data-bin", tmp_path / "data"))
    (tmp_path / "in").write_text(article(2))
    reads = (
        ["--port", "0"] if main is serve.main else ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    )
    quick = QUICK[:2] if main is serve.main else QUICK
    checkpoint = ["--checkpoint", str(pieces / "save"), "--data"]
    for options, message in (
        (
            [*checkpoint, str(other)],
            f"was trained with another source dictionary than {other}/dict.source.txt: line 3 has",
        ),
        ([*checkpoint, str(pieces / "data-bin"), "--sentencepiece-model", str(foreign)], "is not the sentencepiece"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*options, *quick, *reads])
        line = stopped.value.code
        assert message in line and "\n" not in line and ": error: " in line
        assert not (tmp_path / "out").exists()


def test_load_summarizer_accepts_matching_vocabularies_without_a_warning(pieces, tmp_path, caplog):
    hub = load_summarizer(str(pieces / "save"), str(pieces / "data-bin"), device="cpu")
    assert hub.cfg.bpe.sentencepiece_model == str(pieces / "sentencepiece.model")
    assert "does not carry" not in caplog.text


def test_dictionary_folder_with_a_colon_in_its_name_is_refused(pieces, tmp_path):
    """Check it because fairseq would look for two folders; a checkpoint alone may be in such a folder."""
    given = shutil.copytree(pieces / "data-bin", tmp_path / "a:b")
    with pytest.raises(PyramidionError, match=r"a:b.*rename (it|the folder)"):
        load_summarizer(str(pieces / "save"), str(given), device="cpu")
    beside = shutil.copy(pieces / "save" / "checkpoint_last.pt", given / "checkpoint_last.pt")
    with pytest.raises(PyramidionError, match=r"a:b.*rename (it|the folder)"):
        PyramidionModel.from_pretrained(str(given))
    data, model = str(pieces / "data-bin"), str(pieces / "sentencepiece.model")
    assert load_summarizer(str(beside), data, model, device="cpu").models
    assert PyramidionModel.from_pretrained(str(given), "checkpoint_last.pt", data, sentencepiece_model=model).models


# Checkpoints of earlier versions or other code


@pytest.fixture
def old(trained, tmp_path):
    """Return a function that writes the checkpoint without its record and with the given data folder."""

    def make(data, name="old.pt"):
        state = load_checkpoint(trained)
        del state["extra_state"]["vocabularies"]
        state["cfg"]["task"]["data"] = str(data)
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return make


def test_old_checkpoint_is_compared_with_the_dictionaries_it_names(command, old, data, other, tmp_path):
    using = [*USER_DIR, *TASK, "--cpu", *BEAM]
    line = the_line(command("generate", other, *using, "--path", old(data), check=False))
    assert DIFFERENCE in line
    line = the_line(train(command, other, tmp_path / "save", "--finetune-from-model", old(data), check=False))
    assert DIFFERENCE in line
    copy = shutil.copytree(data, tmp_path / "copy")
    done = command("generate", copy, *using, "--path", old(data))
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "does not carry its dictionaries" in line]
    assert len(warnings) == 1 and f"those in {data}, which its options name, are compared" in warnings[0]


@pytest.mark.parametrize("named", ["/nonexistent", "same", "of another size", "garbage"])
def test_old_checkpoint_with_unknown_dictionaries_loads_with_a_warning(command, old, data, tmp_path, named):
    folder = {"same": data}.get(named, tmp_path / "named")
    if named in ("of another size", "garbage"):
        folder.mkdir()
        for side in ("source", "target"):
            make_dictionary(WORDS + 5).save(str(folder / f"dict.{side}.txt"))
        if named == "garbage":
            (folder / "dict.source.txt").write_bytes(b"\xff\xfe\n")
    done = command("generate", data, *USER_DIR, *TASK, "--cpu", *BEAM, "--path", old(folder))
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "does not carry its dictionaries" in line]
    assert len(warnings) == 1 and warnings[0].endswith("not compared")


@pytest.mark.parametrize("record", [None, 3, "text", {}, {"source": 3, "target": None}, ["source"]])
def test_malformed_record_of_vocabularies_is_ignored(trained, record, tmp_path):
    state = load_checkpoint(trained)
    state["extra_state"]["vocabularies"] = record
    state["cfg"]["task"]["data"] = "/nonexistent"
    torch.save(state, tmp_path / "model.pt")
    assert (
        vocabularies.recorded(checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "model.pt"))["extra_state"])
        is None
    )


# The comparison


def symbols(*more):
    return [*Dictionary().symbols, *more]


@pytest.mark.parametrize(
    "trained, given, difference",
    [
        (symbols("a", "b"), symbols("a", "b"), None),
        (symbols("a", "b"), symbols("b", "a"), "line 1 has 'b', not 'a'"),
        (symbols("a", "b"), symbols("a"), "line 2 has no symbol, not 'b' (5 symbols, not 6)"),
        (symbols("a"), symbols("a", "b"), "line 2 has 'b', not no symbol (6 symbols, not 5)"),
        (symbols("a", "<mask>"), symbols("a"), None),
        (symbols("a", "<mask>"), symbols("<mask>", "a"), "line 1 has '<mask>', not 'a'"),
        (symbols("a"), symbols("<mask>"), "line 1 has '<mask>', not 'a'"),
        (["<s>", "</s>", "<pad>", "<unk>"], symbols(), "special symbol 1 has '<pad>', not '</s>'"),
    ],
)
def test_first_difference_names_the_first_different_line(trained, given, difference):
    assert vocabularies.first_difference(trained, given) == difference


def test_check_compares_the_target_dictionary():
    task = Namespace(source_dictionary=make_dictionary(5), target_dictionary=make_dictionary(6), cfg=Namespace())
    extra_state = {"vocabularies": vocabularies.describe(symbols("w0"), symbols("w0", "w2"))}
    message = r"was trained with another target dictionary than the data's: line 2 has 'w1', not 'w2'; mend it"
    with pytest.raises(PyramidionError, match=message):
        vocabularies.check_dictionaries(extra_state, task, "m.pt", "mend it", quiet=True)


@pytest.fixture(scope="module")
def byte_level(command, data, tmp_path_factory):
    """Write data whose symbols are numbers with the files of a BPE, and train; return data and checkpoint."""
    folder = shutil.copytree(data, tmp_path_factory.mktemp("byte_level") / "data")
    for side in ("source", "target"):
        path = folder / f"dict.{side}.txt"
        path.write_text(path.read_text(encoding="utf-8").replace("w", ""), encoding="utf-8")
    (folder / "encoder.json").write_text('{"a": 0}')
    (folder / "vocab.bpe").write_text("#version\na b\n")
    train(command, folder, folder.parent, "--max-update", 1)
    return folder, folder.parent / "checkpoint_last.pt"


def test_checkpoint_records_the_byte_level_bpe(byte_level):
    folder, trained = byte_level
    files = [str(folder / name) for name in BYTE_LEVEL]
    record = load_checkpoint(trained)["extra_state"]
    assert record["vocabularies"]["byte_level"] == vocabularies.digest(*files)
    assert record["vocabularies"]["sentencepiece"] is None
    assert vocabularies.digest(*files) != vocabularies.digest(files[0])
    vocabularies.check_tokenizer(record, "byte_level", files, "m.pt", "mend it")
    with pytest.raises(PyramidionError, match=r"encoder\.json are not the byte-level BPE that m\.pt .*; mend it"):
        vocabularies.check_tokenizer(record, "byte_level", files[:1], "m.pt", "mend it")


@pytest.mark.parametrize("way", ["train", "generate", "summarize", "export"])
def test_another_byte_level_bpe_is_refused(command, byte_level, way, tmp_path):
    folder, trained = byte_level
    other = shutil.copytree(folder, tmp_path / "data")
    (other / "vocab.bpe").write_text("#version\nb a\n")
    said = "are not the byte-level BPE that"
    if way == "train":
        shutil.copy(trained, tmp_path)
        line = the_line(train(command, other, tmp_path, "--max-update", 2, check=False))
        said = "was trained with another byte-level BPE than the data's"
    elif way == "generate":
        files = ["--gpt2-encoder-json", other / "encoder.json", "--gpt2-vocab-bpe", other / "vocab.bpe"]
        words = [*USER_DIR, *TASK, "--path", trained, "--cpu", *BEAM, *EVERY, "--bpe", "gpt2", *files]
        line = the_line(command("generate", other, *words, check=False))
    else:
        with pytest.raises(PyramidionError) as error:
            load_summarizer(str(trained), str(other)) if way == "summarize" else find_subwords(
                Dictionary.load(str(other / "dict.source.txt")).symbols, other, [other],
                load_checkpoint(trained)["extra_state"], trained,
            )  # fmt: skip
        line = str(error.value)
    assert said in line
