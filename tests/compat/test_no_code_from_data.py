"""Nothing in the package turns data into code: no eval, no shell, no pickle but torch's weights-only reading."""

import ast

import pytest

from tests.helpers.paths import ROOT

FOLDERS = ("pyramidion_fairseq", "preprocess", "examples", "scripts", "benchmarks")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
#: Names that may not be called, whatever they belong to, and those that may not with their module.
CALLS = {"eval", "exec", "compile", "__import__", "execfile", "input"}
DOTTED = {
    "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "dill.load", "dill.loads",
    "subprocess.getoutput", "subprocess.getstatusoutput", "hub_utils.from_pretrained",
}  # fmt: skip
#: Of archives: members are read, never written where they say; fairseq's loading unpacks what it is given.
METHODS = {"extractall", "extract", "unpack_archive", "load_archive_file"}


def offences(source):
    """What in a program is not allowed: (line, what)."""
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


def test_the_check_sees_them():
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


def test_every_folder_is_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS) and len(FILES) > 150


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_code_from_data(folder):
    found = [
        f"{path}:{line}: {what}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] == folder
        for line, what in offences(path.read_text(encoding="utf-8"))
    ]
    assert not found
