"""Tests of extractive fragments against the algorithm printed in its paper and hand-computed values."""

import random

import pytest

from pyramidion_fairseq.scoring.fragments import fragment_lengths, word_positions


def figure_3(document, summary):
    """Return the lengths of fragments by Figure 3 of Grusky et al. 2018, line by line, counting words from 0."""
    fragments, i, j = [], 0, 0
    while i < len(summary):
        fragment = []
        while j < len(document):
            if summary[i] == document[j]:
                i_end, j_end = i, j
                while i_end < len(summary) and j_end < len(document) and summary[i_end] == document[j_end]:
                    i_end, j_end = i_end + 1, j_end + 1
                if len(fragment) < i_end - i:
                    fragment = summary[i:i_end]
                j = j_end
            else:
                j += 1
        i, j = i + max(len(fragment), 1), 0
        fragments.append(fragment)
    return [len(fragment) for fragment in fragments if fragment]


@pytest.mark.parametrize(
    "document, summary, lengths",
    [
        ("a b c d e", "a b x d e", [2, 2]),
        ("a b c d e", "c d a b c", [2, 3]),
        ("a b a b c", "a b c", [3]),  # the longest match, not the first
        ("a a a b", "a a b", [2, 1]),  # the search goes on after a match: "a a b" begins inside the first one
        ("a b", "a b a b a b", [2, 2, 2]),
        ("a b", "b a", [1, 1]),
        ("a b", "x y", []),
        ("a b", "", []),
        ("", "a b", []),
    ],
)
def test_fragment_lengths_match_hand_computed_values(document, summary, lengths):
    assert fragment_lengths(summary.split(), document.split()) == lengths
    assert figure_3(document.split(), summary.split()) == lengths


@pytest.mark.parametrize("letters", ["ab", "abcd", "abcdefghijkl"])
def test_fragment_lengths_match_the_published_algorithm(letters):
    draw = random.Random(len(letters))
    for _ in range(300):
        document, summary = (draw.choices(letters, k=draw.randrange(most)) for most in (60, 20))
        assert fragment_lengths(summary, document, word_positions(document)) == figure_3(document, summary)
