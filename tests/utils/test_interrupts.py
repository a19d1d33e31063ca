"""Tests that SIGINT ends a command even if an imported module swallows it or turns it into another error."""

import signal
import threading

import pytest

from pyramidion_fairseq.cli import classify, convert, serve
from pyramidion_fairseq.cli.common import one_line_exit
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.utils import interrupts


@pytest.fixture(autouse=True)
def heeded():
    """Handle SIGINT as usual: in a background job of a shell it would be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Field:
    """A field that turns an interruption into a RuntimeError, as fairseq's dataclasses do until Python 3.12."""

    def __set_name__(self, owner, name):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError(f"Error calling __set_name__ on {name}") from error


def turn_into_another_error():
    type("Options", (), {"field": Field()})


def swallow(*_, **__):
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        return "a model"


def ends(capsys, call):
    with pytest.raises(SystemExit) as stopped:
        call()
    return stopped.value.code, capsys.readouterr().err.splitlines()[-1]


def test_interruption_turned_into_another_error_ends_the_command(capsys):
    def run():
        with one_line_exit("command"):
            turn_into_another_error()

    assert ends(capsys, run) == (130, "command: interrupted")


def test_swallowed_interruption_is_raised_by_the_next_check(capsys):
    def run():
        with one_line_exit("command"):
            swallow()
            interrupts.raise_swallowed()

    assert ends(capsys, run) == (130, "command: interrupted")


def test_remembered_interruption_does_not_affect_the_next_command():
    with interrupts.remembered():
        swallow()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(PyramidionError, match="its own"), interrupts.remembered():
        raise PyramidionError("its own")


def test_remembered_changes_no_other_handler_and_no_other_thread():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.remembered():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    found = []

    def run():
        with interrupts.remembered():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_serve_does_not_start_after_an_interruption_swallowed_in_loading(capsys, monkeypatch):
    monkeypatch.setattr("pyramidion_fairseq.inference.loading.load_summarizer", swallow)
    assert ends(capsys, lambda: serve.main(["--port", "0"])) == (130, "pyramidion-serve: interrupted")


def test_classify_and_convert_end_after_a_swallowed_interruption(capsys, monkeypatch, tmp_path):
    (tmp_path / "documents.txt").write_text("a document\n")
    monkeypatch.setattr("pyramidion_fairseq.apps.classify.loading.load_classifier", swallow)
    given = ["--checkpoint", "x.pt", str(tmp_path / "documents.txt")]
    assert ends(capsys, lambda: classify.main(given)) == (130, "pyramidion-classify: interrupted")
    build = convert.build_parser
    monkeypatch.setattr(convert, "build_parser", lambda *given: (swallow(), build(*given))[1])
    given = ["huggingface", "x.pt", str(tmp_path / "out")]
    assert ends(capsys, lambda: convert.main(given)) == (130, "pyramidion-convert: interrupted")
