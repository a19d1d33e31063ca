"""Tests that no code is made from data: no eval, no shell, and no pickle except torch's weights-only loading."""

import ast

import pytest

from tests.helpers.paths import ROOT

FOLDERS = ("pyramidion_fairseq", "preprocess", "examples", "scripts", "benchmarks")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
#: Plain and dotted names that may not be called.
CALLS = {"eval", "exec", "compile", "__import__", "execfile", "input"}
DOTTED = {
    "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "dill.load", "dill.loads",
    "subprocess.getoutput", "subprocess.getstatusoutput", "hub_utils.from_pretrained",
}  # fmt: skip
#: Methods that extract archives; members are only read. fairseq's load_archive_file extracts, too.
METHODS = {"extractall", "extract", "unpack_archive", "load_archive_file"}


def offences(source):
    """Yield (line, name) of every call in a source that is not allowed."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in CALLS | DOTTED or name.rpartition(".")[2] in METHODS:
            yield node.lineno, name
        if options.get("shell", "False") != "False" or options.get("allow_pickle", "False") != "False":
            yield node.lineno, name
        if name.endswith("torch.load") and options.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True"
        if options.get("trust_remote_code", "False") != "False":
            yield node.lineno, "trust_remote_code"


def test_check_finds_forbidden_calls_and_allows_safe_ones():
    for source in (
        "eval('1')",
        "exec(code)",
        "subprocess.run('x', shell=True)",
        "subprocess.run(c, shell=flag)",
        "os.system(c)",
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "zipfile.ZipFile(f).extractall(d)",
        "hub_utils.from_pretrained(f)",
        "yaml.load(f)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ):
        assert list(offences(source)), source
    for source in ("ast.literal_eval(x)", "model.eval()", "torch.load(f, weights_only=True)", "yaml.safe_load(f)"):
        assert not list(offences(source)), source


def test_check_covers_every_folder():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS) and len(FILES) > 150


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_has_no_call_that_runs_code_from_data(folder):
    found = [
        f"{path}:{line}: {what}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] == folder
        for line, what in offences(path.read_text(encoding="utf-8"))
    ]
    assert not found
