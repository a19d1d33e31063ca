import json
import os

import pytest

from pyramidion_fairseq.prepare.errors import BadRecord
from pyramidion_fairseq.prepare.python_docs import PythonDocs, installation_roots, is_test, module_files
from pyramidion_fairseq.prepare.record_types import Raw, Source

LONG = " ".join(["It explains at some length what happens here and what a caller has to know about it."] * 2)
MODULE = f'''"""Tools for doing something useful with several kinds of data."""
import os

if os.name:
    class Outer(Base):
        """Outer is documented. {LONG}"""

        def method(self, x, /, y=3, *rest: int, key, **others) -> str:
            """Method text."""
            def inner():
                """Never part of the documentation."""

        class Inner:
            def undocumented(self): ...
            async def fetch(self, *, url):
                """Fetch text."""
try:
    pass
except ImportError:
    def fallback():
        """Fallback text. {LONG}"""
'''


@pytest.fixture
def site(tmp_path):
    """Write a small tree of modules and return its root."""
    contents = {
        "pack/__init__.py": MODULE,
        "pack/copy.py": MODULE,
        "pack/same_summary.py": MODULE.replace("Fallback text", "Another text"),
        "pack/other.py": MODULE.replace("useful", "useless").replace("Fallback text", "Another text"),
        "pack/third.py": MODULE.replace("useful", "third").replace("Fallback text", "Third text"),
        "pack/terse.py": MODULE.replace("Tools for doing something useful with several kinds of data.", "Terse."),
        "pack/thin.py": '"""Tools for doing something else with several kinds of data."""\n',
        "pack/broken.py": '"""Not Python 3."""\nprint "x"\n',
        "pack/tests/test_a.py": MODULE,
        "pack/test_b.py": MODULE,
        "pack/__pycache__/x.py": MODULE,
        "pack/not-a-module.py": MODULE,
        "site-packages/elsewhere.py": MODULE,
    }
    for name, content in contents.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(tmp_path / "site")


def test_document_is_the_documentation_of_a_module(site):
    parsed = PythonDocs([site]).parse(Raw(os.path.join(site, "pack/__init__.py"), 1, "pack"))
    assert parsed.summary == "Tools for doing something useful with several kinds of data."
    assert parsed.key == "pack"
    assert parsed.document.split("\n") == [
        "class Outer: Outer is documented. " + LONG,
        "Outer.method(self, x, y, *rest, key, **others): Method text.",
        "Outer.Inner.fetch(self, *, url): Fetch text.",
        "fallback(): Fallback text. " + LONG,
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pack.terse", "module docstring of fewer than 8 words"),
        ("pack.thin", "documentation of fewer than 60 words"),
        ("pack.broken", "not readable as Python"),
        ("pack.tests.test_a", "test module"),
        ("pack.test_b", "test module"),
    ],
)
def test_unsuitable_modules_are_skipped_but_not_bad(site, name, reason):
    with pytest.raises(BadRecord, match=reason) as error:
        PythonDocs([site]).parse(Raw(os.path.join(site, name.replace(".", "/") + ".py"), 1, name))
    assert error.value.bad is False


def test_corpus_of_a_tree_skips_duplicates_and_unsuitable_modules(site, tmp_path, options):
    from pyramidion_fairseq.prepare.read_stage import read_stage

    args = options("--python-docs", "--strict")
    result = read_stage(args, [Source(PythonDocs([site]), None, unique=True)], str(tmp_path / "out"))
    assert sum(result["documents"].values()) == 3
    assert result["skipped"] == {
        "duplicate": 2,  # copy.py, and same_summary.py for its summary
        "module docstring of fewer than 8 words": 1,
        "documentation of fewer than 60 words": 1,
        "not readable as Python": 1,
        "test module": 2,
    }
    assert result["bad"] == 0
    listed = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().split("\n")[:-1]]
    duplicates = [os.path.basename(skip["file"]) for skip in listed if skip["reason"] == "duplicate"]
    assert duplicates == ["copy.py", "same_summary.py"]


def test_module_files_yields_only_modules_in_a_fixed_order(site):
    names = [name for name, _ in module_files(site)]
    assert names == sorted(names, key=lambda name: ("tests" in name, name))
    assert "pack" in names and "pack.__init__" not in names
    assert not [name for name in names if "pycache" in name or "elsewhere" in name or "-" in name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tests.b", True),
        ("test", True),
        ("a.test_b", True),
        ("a.b_test", True),
        ("conftest", True),
        ("a.testing", False),
    ],
)
def test_is_test_recognises_test_modules(name, expected):
    assert is_test(name) is expected


def test_python_docs_of_this_installation_fill_all_splits(read):
    assert len(installation_roots()) == 2
    result, files = read("--python-docs", "--max-documents", 30, "--workers", 2)
    assert sum(result["documents"].values()) == 30
    assert {name for name in result["documents"]} == {"train", "valid", "test"}
    summaries = files["train.target"] + files["valid.target"] + files["test.target"]
    assert len(set(summaries)) == 30
    assert min(len(summary.split()) for summary in summaries) >= 8
    documents = files["train.source"] + files["valid.source"] + files["test.source"]
    assert min(len(document.split()) for document in documents) >= 60
