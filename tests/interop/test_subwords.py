"""Tests of find_subwords, which finds the model that splits texts into a dictionary's symbols."""

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.interop.dictionary_files import SPECIALS
from pyramidion_fairseq.interop.subwords import find_subwords


@pytest.mark.parametrize("option", ["--bpe", "--sentencepiece-model"])
def test_find_subwords_names_the_option_of_the_command_in_its_error(tmp_path, option):
    with pytest.raises(PyramidionError, match=f"give the path of the file or its folder with {option}"):
        find_subwords([*SPECIALS, "\u2581a"], tmp_path, [], None, tmp_path, option)
