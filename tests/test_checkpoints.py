"""Tests that checkpoints of stock fairseq load in every command, and that hostile or broken files are refused."""

import argparse
import collections
import functools
import io
import os
import pickle
import random
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.models.transformer import TransformerModel
from omegaconf import AnyNode, OmegaConf

from pyramidion_fairseq import checkpoints
from pyramidion_fairseq.compat import patches
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from tests.helpers import forked
from tests.helpers.summaries import article, write_model

ROOT = Path(__file__).resolve().parent.parent
USER_DIR = str(ROOT / "pyramidion_fairseq")
COMMAND_LIMIT_S = 120


@pytest.fixture(scope="module", autouse=True)
def installed():
    patches.install()
    checkpoints.install()


class Workplace:
    """A folder with a tiny binarised corpus, in which fairseq's commands run."""

    def __init__(self, folder):
        self.folder = folder
        draw = random.Random(0)
        for split, lines in (("train", 12), ("valid", 2), ("test", 3)):
            texts = [[f"w{draw.randrange(20)}" for _ in range(draw.randrange(4, 10))] for _ in range(lines)]
            (folder / f"{split}.src").write_text("".join(" ".join(text) + "\n" for text in texts))
            (folder / f"{split}.tgt").write_text("".join(" ".join(text[:3]) + "\n" for text in texts))
        prefixes = [part for split in ("train", "valid", "test") for part in (f"--{split}pref", split)]
        self.run("preprocess", "-s", "src", "-t", "tgt", *prefixes, "--destdir", "bin", "--joined-dictionary")

    def run(self, name, *arguments, text=""):
        done = forked.run(
            forked.fairseq_command(name), [f"fairseq-{name}", *arguments], text, COMMAND_LIMIT_S, cwd=self.folder
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    def run_script(self, name, *arguments):
        """Run the installed command, whose name matters, in a new process."""
        command = [str(Path(sys.executable).parent / f"fairseq-{name}"), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=COMMAND_LIMIT_S
        )

    def train(self, save_dir, *arguments):
        sizes = [f"--{side}-{size}" for side in ("encoder", "decoder") for size in ("embed-dim", "ffn-embed-dim")]
        narrow = [part for size in sizes for part in (size, "8")]
        heads = ["--encoder-attention-heads", 2, "--decoder-attention-heads", 2, "--share-all-embeddings"]
        layers = ["--encoder-layers", 1, "--decoder-layers", 1]
        steps = ["--lr", 0.01, "--max-tokens", 60, "--required-batch-size-multiple", 1, "--log-format", "simple"]
        model = ["--arch", "transformer", *narrow, *heads, *layers]
        data = ["bin", "-s", "src", "-t", "tgt", "--task", "translation", "--user-dir", USER_DIR, "--cpu"]
        save = ["--save-dir", save_dir, "--no-epoch-checkpoints"]
        return self.run("train", *data, *model, *steps, *save, *arguments)

    def reading(self, path):
        """Return options of the commands that read a checkpoint."""
        batches = ["--batch-size", 2, "--required-batch-size-multiple", 1]
        return ["bin", "--user-dir", USER_DIR, "--cpu", "--task", "translation", "--path", path, *batches]


# Meters of --eval-bleu have numpy arrays, which torch refuses by default.
METERS = ["--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 3}', "--optimizer", "adam"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("workplace"))


@pytest.fixture(scope="module")
def real(workplace):
    """Train stock fairseq for three updates and return its checkpoint, which has meters."""
    workplace.train("run", *METERS, "--max-update", 3)
    return workplace.folder / "run" / "checkpoint_last.pt"


# ---------------------------------------------------------------------------------------------- files that must load


def test_training_resumes_from_a_stock_checkpoint(workplace, real):
    log = workplace.train("run", *METERS, "--max-update", 4, "--no-save")
    assert "@ 3 updates)" in log and "num_updates 4" in log


def test_generate_scores_with_bleu_by_default(workplace, real):
    log = workplace.run("generate", *workplace.reading(real), "--beam", 2, "--max-len-b", 4)
    assert log.count("\nH-") + log.startswith("H-") == 3
    assert "Generate test with beam=2: BLEU" in log


def test_interactive_reads_standard_input(workplace, real):
    reading = [part for part in workplace.reading(real) if part not in ("--batch-size", 2)]
    log = workplace.run("interactive", *reading, "--max-len-b", 4, text="w1 w2 w3 w4\n")
    assert "D-0\t" in log


def test_validate_loads_a_stock_checkpoint(workplace, real):
    assert "valid on 'valid' subset | loss" in workplace.run("validate", *workplace.reading(real))


def test_from_pretrained_loads_a_stock_checkpoint(workplace, real):
    model = TransformerModel.from_pretrained(
        str(real.parent), checkpoint_file=real.name, data_name_or_path=str(workplace.folder / "bin")
    )
    assert isinstance(model.translate("w1 w2 w3"), str)


def test_adafactor_with_half_precision_state_loads(workplace):
    """Check that options of Adafactor, a Namespace, load; --memory-efficient-fp16 runs on CPUs, --fp16 does not."""
    options = ["--optimizer", "adafactor", "--memory-efficient-fp16", "--max-update", 2, "--disable-validation"]
    workplace.train("half", *options)
    state = checkpoint_utils.load_checkpoint_to_cpu(str(workplace.folder / "half" / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["optimizer_name"] == "MemoryEfficientFP16Optimizer"
    assert state["last_optimizer_state"]["state"]
    assert state["last_optimizer_state"]["loss_scale"] > 0


def test_load_checkpoint_returns_all_parts_of_the_file(real):
    state = checkpoints.load_checkpoint(real)
    assert set(state) >= {"model", "cfg", "extra_state", "optimizer_history", "last_optimizer_state"}
    assert all(value.device.type == "cpu" for value in state["model"].values())
    counts = dict((name, meter) for _, name, _, meter in state["extra_state"]["metrics"]["valid"])["_bleu_counts"]
    assert isinstance(counts["sum"], np.ndarray)
    moments = state["last_optimizer_state"]["state"]
    assert all("exp_avg_sq" in moment for moment in moments.values())


def test_legacy_checkpoint_with_args_loads(real, tmp_path):
    """Check options in a Namespace, as in old checkpoints, and the loss scale of a half-precision optimizer."""
    state = checkpoints.load_checkpoint(real)
    state.update(args=state["cfg"]["model"], cfg=None)
    state["last_optimizer_state"]["loss_scale"] = 128.0
    state["model"] = {name: value.half() for name, value in state["model"].items()}
    checkpoints.save_checkpoint(state, tmp_path / "legacy.pt")
    loaded = checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "legacy.pt"), arg_overrides={"beam": 3})
    assert loaded["args"].beam == 3 and loaded["cfg"].task._name == "translation"


@pytest.mark.parametrize(
    "left_out", [["extra_state"], ["extra_state", "optimizer_history", "last_optimizer_state", "args"]]
)
def test_weights_and_options_are_enough_to_summarise(left_out, tmp_path):
    """Check checkpoints from which someone removed other parts."""
    summaries = load_summarizer(str(write_model(tmp_path))).summarize([article(3)], min_len=3, max_len_b=6)
    path = tmp_path / "checkpoint_best.pt"
    whole = torch.load(path, weights_only=False)
    torch.save({key: part for key, part in whole.items() if key not in left_out}, path)
    found = load_summarizer(str(path)).summarize([article(3)], min_len=3, max_len_b=6)
    assert found[0].text == summaries[0].text and summaries[0].text
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    assert state["extra_state"]["train_iterator"] == {"epoch": 1, "iterations_in_epoch": 0}
    assert state["optimizer_history"][-1]["num_updates"] == ("args" not in left_out)


@pytest.mark.parametrize("record", [3, [3], "a"])
def test_checkpoint_with_a_malformed_extra_state_is_refused(record, real, tmp_path):
    torch.save({**checkpoints.load_checkpoint(real), "extra_state": record}, tmp_path / "m.pt")
    with pytest.raises(checkpoints.DamagedCheckpointError, match="no usable state of its run"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "m.pt"))


def test_options_saved_as_omegaconf_are_loaded_as_plain_containers(real, tmp_path):
    state = checkpoints.load_checkpoint(real)
    options = {"common": {"seed": 7, "list": [1, {"a": None}]}}
    state["cfg"] = OmegaConf.create(options)
    checkpoints.save_checkpoint(state, tmp_path / "early.pt")
    assert checkpoints.load_checkpoint(tmp_path / "early.pt")["cfg"] == options


@pytest.mark.parametrize("key", ["seed", "data", "save_dir"])
@pytest.mark.parametrize("kind", [OmegaConf.create, dict])
def test_interpolations_in_options_are_refused_and_not_resolved(key, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_USER", "hidden")
    options = kind({"common": {key: "${oc.env:SECRET_OF_THE_USER}"}})
    torch.save({"model": {}, "cfg": options}, tmp_path / "early.pt")
    with pytest.raises(checkpoints.UnsafeCheckpointError, match=f"common.{key}") as refused:
        checkpoints.load_checkpoint(tmp_path / "early.pt")
    assert "hidden" not in one_line(refused)


def broadcast_bytes(path):
    """Return what rank 0 sends on resuming (fairseq.distributed.utils.broadcast_object), without tensors."""
    buffer = io.BytesIO()
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    torch.save(distributed_utils._split_tensors_from_obj(state, []), buffer)
    return buffer.getvalue()


def other_numpy(data):
    """Return the file as the other major version of numpy would have written it."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            for old, new in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
                if b"c" + old in content:
                    content = content.replace(b"c" + old, b"c" + new)
                    break
            copy.writestr(name, content)
    return target.getvalue()


@pytest.fixture(scope="module")
def wanted(real):
    """Return files that must load: a real checkpoint, one by the other numpy, float meters, and a broadcast."""
    floats = io.BytesIO()
    torch.save({"model": {}, "sum": np.array([0.5])}, floats)
    data = real.read_bytes()
    return [data, other_numpy(data), floats.getvalue(), broadcast_bytes(real)]


def test_every_wanted_file_loads_with_weights_only(wanted):
    assert wanted[0] != wanted[1]
    for data in wanted:
        torch.load(io.BytesIO(data), weights_only=True)


@pytest.fixture
def empty_list():
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


@pytest.mark.parametrize("name", [name for _, name in checkpoints.ALLOWED])
def test_every_allowed_type_is_needed_by_a_wanted_file(wanted, empty_list, name):
    torch.serialization.add_safe_globals([entry for entry in checkpoints.ALLOWED if entry[1] != name])
    refused = 0
    for data in wanted:
        try:
            torch.load(io.BytesIO(data), weights_only=True)
        except pickle.UnpicklingError:
            refused += 1
    assert refused


# ---------------------------------------------------------------------------------------------- hostile files


class Call:
    """An object that is pickled as the call of a function, which unpickling runs."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Do nothing: pickle accepts only callables as the function of another Call."""


def by_getattr(shell):
    return Call(Call(getattr, Call(__import__, "os"), "system"), shell)


def in_namespace(shell):
    return argparse.Namespace(arch="transformer", criterion=Call(os.system, shell))


def in_omegaconf(shell):
    return OmegaConf.create({"model": {"inner": Call(os.system, shell)}}, flags={"allow_objects": True})


HOSTILE = {
    "os.system": (lambda shell: Call(os.system, shell), "system"),
    "eval": (lambda shell: Call(eval, f"__import__('os').system({shell!r})"), "builtins.eval"),
    "exec": (lambda shell: Call(exec, f"import os; os.system({shell!r})"), "builtins.exec"),
    "getattr": (by_getattr, "builtins.getattr"),
    "Popen": (lambda shell: Call(subprocess.check_call, ["sh", "-c", shell]), "subprocess.check_call"),
    "partial": (lambda shell: Call(functools.partial(os.system, shell)), "functools.partial"),
    "map": (lambda shell: Call(list, Call(map, os.system, [shell])), "builtins.map"),
    "namespace": (in_namespace, "system"),
    "omegaconf": (in_omegaconf, "system"),
    "in a key": (lambda shell: {(Call(os.system, shell),): 1}, "system"),
    "default": (lambda shell: collections.defaultdict(list, {"a": Call(os.system, shell)}), "system"),
}


def write_zip(state, path):
    torch.save(state, path)


def write_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_protocol_4(state, path):
    torch.save(state, path, pickle_protocol=4)


def write_plain(state, path):
    path.write_bytes(pickle.dumps(state, protocol=4))


READERS = {
    "ours": checkpoints.load_checkpoint,
    "fairseq": lambda path: checkpoint_utils.load_checkpoint_to_cpu(str(path)),
}


def one_line(refused):
    line = str(refused.value)
    assert "\n" not in line and "weights_only" not in line and len(line) < 700
    assert isinstance(refused.value, PyramidionError)
    assert refused.value.__context__ is None or refused.value.__suppress_context__  # torch's own advice is not shown
    return line


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("write", [write_zip, write_legacy, write_protocol_4, write_plain])
def test_hostile_files_are_refused_and_run_nothing(case, write, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    build, named = HOSTILE[case]
    write({"model": {}, "extra_state": build(f"touch {shlex.quote(str(marker))}")}, path)
    for read in READERS.values():
        with pytest.raises(checkpoints.UnsafeCheckpointError) as refused:
            read(path)
        line = one_line(refused)
        assert str(path) in line and named in line
        assert not marker.exists()


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_run_their_code_if_unpickled_without_checks(case, tmp_path):
    """Check that the files of the test above are really hostile."""
    marker = tmp_path / "marker"
    build, _ = HOSTILE[case]
    data = pickle.dumps({"model": {}, "extra_state": build(f"touch {shlex.quote(str(marker))}")}, protocol=2)
    pickle.loads(data)  # noqa: S301  bytes of the test itself
    assert marker.exists()


def test_popen_is_refused_by_name(tmp_path):
    call = Call(subprocess.Popen, ["touch", str(tmp_path / "marker")])
    torch.save({"model": {}, "extra_state": call}, tmp_path / "m.pt")
    with pytest.raises(checkpoints.UnsafeCheckpointError, match=r"subprocess\.Popen"):
        checkpoints.load_checkpoint(tmp_path / "m.pt")
    assert not (tmp_path / "marker").exists()


def test_weights_only_cannot_be_disabled_from_outside(tmp_path, monkeypatch):
    """Check torch's variable and the default of torch before 2.6, with our check of the archive disabled."""
    monkeypatch.setattr(checkpoints.archive_check, "check_file", lambda file: None)
    build, named = HOSTILE["os.system"]
    torch.save({"model": {}, "extra_state": build(f"touch {tmp_path / 'marker'}")}, tmp_path / "m.pt")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    load = torch.load
    seen = []

    def old_default(file, map_location=None, weights_only=False):
        seen.append(weights_only)
        return load(file, map_location=map_location, weights_only=weights_only)

    monkeypatch.setattr(torch, "load", old_default)
    for read in READERS.values():
        with pytest.raises(checkpoints.UnsafeCheckpointError, match=named):
            read(tmp_path / "m.pt")
    with pytest.raises(checkpoints.UnsafeCheckpointError, match=named):
        checkpoint_utils.load_ema_from_checkpoint(str(tmp_path / "m.pt"))
    assert seen == [True] * 3 and not (tmp_path / "marker").exists()


def test_control_characters_in_type_names_are_not_printed(tmp_path):
    """Check a type's name in the file that would clear the screen."""
    (tmp_path / "m.pt").write_bytes(b"\x80\x02cbuiltins\n\x1b[2Jeval\n(tR.")
    with pytest.raises(PyramidionError) as refused:
        checkpoints.load_checkpoint(tmp_path / "m.pt")
    assert "eval" in one_line(refused) and one_line(refused).isprintable()


# An option in the checkpoint's configuration that fairseq evaluates; weights_only does not prevent this.
CODE = "[__import__('pathlib').Path({!r}).touch() or 5]"


def with_option(real, path, value, **others):
    state = checkpoints.load_checkpoint(real)
    vars(state["cfg"]["model"]).update(adaptive_softmax_cutoff=value, share_all_embeddings=False, **others)
    vars(state["cfg"]["model"]).update(share_decoder_input_output_embed=False)
    checkpoints.save_checkpoint(state, path)


def build_model(path):
    return checkpoint_utils.load_model_ensemble([str(path)], strict=False)


def test_options_that_fairseq_would_evaluate_are_refused(workplace, real, tmp_path, monkeypatch):
    monkeypatch.chdir(workplace.folder)
    with_option(real, tmp_path / "m.pt", CODE.format(str(tmp_path / "marker")))
    with pytest.raises(checkpoints.UnsafeCheckpointError) as refused:
        build_model(tmp_path / "m.pt")
    assert "model.adaptive_softmax_cutoff" in one_line(refused)
    assert not (tmp_path / "marker").exists()
    # Stock fairseq runs the code of this file, in spite of weights_only:
    monkeypatch.setattr(checkpoint_utils, "torch", torch)
    try:
        build_model(tmp_path / "m.pt")
    except Exception as error:  # it need not make a working model
        assert not isinstance(error, (checkpoints.UnsafeCheckpointError, checkpoints.DamagedCheckpointError))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "value",
    [
        "os.system('x')",
        " \tprint(1)",
        "\nprint(1)",
        b"print(1)",
        "[0 for T.__class_getitem__ in [print]]",
        "${model.first}${model.second}",
        "(lambda: 0)",
        "{'a': [f'{print(1)}']}",
    ],
)
def test_options_with_any_kind_of_code_are_refused(value, real, tmp_path):
    nested = {"nested": [argparse.Namespace(deep={"er": value})]}
    node = {"node": AnyNode(value, flags={"allow_objects": True})}
    for others in ({}, nested, node, {"values": [value]}):
        with_option(real, tmp_path / "m.pt", None if others else value, **others)
        with pytest.raises(checkpoints.UnsafeCheckpointError):
            checkpoints.load_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "value", ["5,7", "[(512, 10, 5)] + [(512, 3, 2)] * 4", '{"beam": 4}', "2:2048,3:512", "/a/b(1).pt", "gelu", "x.y"]
)
def test_options_without_code_are_accepted(value, real, tmp_path):
    places = {
        "data": ["runs(2)", "runs(3)"],
        "save_dir": "runs(2)",
        "sentencepiece_model": "spm(1)",
        "train_subset": "a(1)",
    }
    with_option(real, tmp_path / "m.pt", value, **places)
    assert vars(checkpoints.load_checkpoint(tmp_path / "m.pt")["cfg"]["model"])["adaptive_softmax_cutoff"] == value


# ---------------------------------------------------------------------------------------------- broken files


def broken(kind, whole):
    """Return the content of a broken file made from a whole one."""
    if kind == "garbled":
        middle = whole.index(b"data.pkl") + 200
        return whole[:middle] + bytes(reversed(whole[middle : middle + 400])) + whole[middle + 400 :]
    return {
        "half": whole[: len(whole) // 2],
        "one byte short": whole[:-1],
        "start only": whole[:3],
        "empty": b"",
        "random": random.Random(1).randbytes(5000) if sys.version_info >= (3, 9) else os.urandom(5000),
        "text": b"not a checkpoint\n",
        "zeros": bytes(4096),
        "a number": pickle.dumps(5, protocol=2),
    }[kind]


BROKEN = ["half", "one byte short", "start only", "empty", "random", "text", "zeros", "a number", "garbled"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused_with_their_path(kind, reader, real, tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(broken(kind, real.read_bytes()))
    with pytest.raises(checkpoints.DamagedCheckpointError) as refused:
        READERS[reader](path)
    assert str(path) in one_line(refused)


def test_randomly_corrupted_files_raise_no_other_error(tmp_path):
    draw = random.Random(2)
    whole = io.BytesIO()
    torch.save({"model": {"a": torch.ones(2)}}, whole, _use_new_zipfile_serialization=False)
    for _ in range(300):
        data = bytearray(whole.getvalue())
        for _ in range(draw.randrange(1, 30)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "m.pt").write_bytes(data)
        try:
            checkpoints.load_checkpoint(tmp_path / "m.pt")
        except PyramidionError as error:
            assert "\n" not in str(error)


def test_options_that_contain_themselves_are_refused(tmp_path):
    state = {"model": {}, "cfg": {}}
    state["cfg"]["again"] = state["cfg"]
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(checkpoints.DamagedCheckpointError, match="contain themselves"):
        checkpoints.load_checkpoint(tmp_path / "m.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_torchscript_program_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "m.pt"))
    with pytest.raises(checkpoints.UnsafeCheckpointError, match="TorchScript") as refused:
        checkpoints.load_checkpoint(tmp_path / "m.pt")
    one_line(refused)


def test_file_without_a_model_is_refused_as_a_checkpoint_of_fairseq(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "m.pt")
    assert set(checkpoints.load_checkpoint(tmp_path / "m.pt")) == {"weight"}
    with pytest.raises(checkpoints.DamagedCheckpointError, match="no 'model'"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "m.pt"))


@pytest.mark.parametrize("reader", READERS)
def test_missing_file_raises_file_not_found_error(reader, tmp_path):
    with pytest.raises(FileNotFoundError):
        READERS[reader](tmp_path / "none.pt")


def ends_with_one_line(done, expected):
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "checkpoint_last.pt" in last and expected in last


def test_generate_ends_with_one_line_for_a_hostile_file(workplace, tmp_path):
    path, marker = tmp_path / "checkpoint_last.pt", tmp_path / "marker"
    torch.save({"model": {}, "extra_state": Call(os.system, f"touch {marker}")}, path)
    argv = ["fairseq-generate", *workplace.reading(path)]
    ends_with_one_line(forked.run(forked.fairseq_command("generate"), argv, cwd=workplace.folder), "posix.system")
    assert not marker.exists()


def test_installed_train_command_ends_with_one_line_for_a_broken_file(workplace, real, tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(real.read_bytes()[:1000])
    data = ["bin", "--user-dir", USER_DIR, "--cpu", "--arch", "transformer_iwslt_de_en"]
    save = ["--save-dir", tmp_path, "--max-tokens", 60, "--optimizer", "adam"]
    ends_with_one_line(workplace.run_script("train", *data, *save), "is damaged")


# ---------------------------------------------------------------------------------------------- installing, saving


def test_second_install_changes_nothing():
    first = checkpoint_utils.torch
    known = set(torch.serialization.get_safe_globals())
    checkpoints.install()
    assert checkpoint_utils.torch is first
    assert set(torch.serialization.get_safe_globals()) == known
    assert checkpoint_utils.torch.save is torch.save and torch.load is not first.load


def test_save_checkpoint_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "m.pt"
    checkpoints.save_checkpoint({"model": {"a": torch.zeros(2)}}, path)
    checkpoints.save_checkpoint({"model": {"a": torch.ones(2)}}, str(path))
    assert checkpoints.load_checkpoint(path)["model"]["a"].tolist() == [1, 1]
    assert os.listdir(tmp_path) == ["m.pt"]


@pytest.mark.parametrize("failing", ["save", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_save_checkpoint_keeps_the_old_file_and_leaves_no_other(failing, error, tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    checkpoints.save_checkpoint({"old": 1}, path)

    def fail(*arguments, **_):
        if failing == "save":
            arguments[1].write(b"half")
        raise error("no space left")

    monkeypatch.setattr(torch if failing == "save" else os, failing, fail)
    with pytest.raises(error):
        checkpoints.save_checkpoint({"new": 1}, path)
    monkeypatch.undo()
    assert checkpoints.load_checkpoint(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["m.pt"]


def test_save_checkpoint_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.save_checkpoint({}, tmp_path / "none" / "m.pt")
