"""Split summaries into sentences, for ROUGE-Lsum."""

from __future__ import annotations

import re

#: Changes whenever :func:`split_sentences` splits differently; part of a score's signature.
VERSION = 1

# In tokenised text (arXiv, PubMed) punctuation marks are separate words: " . ", " ? ", " ! ".
_TOKENISED = re.compile(r"(?<=\s[.?!])\s+")
# A mark after a word, with closing quotation marks and brackets, before white space.
_ATTACHED = re.compile(r"(?<=\S)[.?!]+[\"'”’)\]]*\s+(?=(\S))")
# Abbreviations, whose full stop often does not end a sentence, also "e.g", "i.e" and "U.S".
_ABBREVIATION = re.compile(
    r"al|approx|ca|cf|ch|co|corp|dept|dr|eds?|eg|eqn?s?|et|figs?|ie|inc|jr|ltd|mr|mrs|ms|nos?|nr|pp?|prof|refs?|resp|"
    r"sect?|sr|st|suppl|tabs?|univ|viz|vols?|vs|(?:[^\W\d_]\.)+[^\W\d_]",
    re.IGNORECASE,
)
# Full stops, question and exclamation marks of other scripts, which need no blank after them: Chinese and Japanese;
# Hindi; Arabic and Urdu; Armenian, Ethiopic, Burmese, Khmer. Thai has none.
_OTHER_SCRIPTS = re.compile(r"[。｡！？।॥؟۔։።፧။។៕]+[\"'”’»」』）)\]]*")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]*$")


def split_sentences(text: str, separator: str | None = None, any_script: bool = False) -> list[str]:
    """Split a summary into sentences; together they contain all of its characters except white space.

    Without a separator, the text is split at line ends, after ``.``, ``?`` and ``!`` that are separate words
    (tokenised text), and after those that end a word if a capital, digit, quotation mark or bracket follows. If the
    text has no capitals and no marks that are separate words, anything may follow. The text is not split after an
    initial ("J. Smith") or an abbreviation ("et al.", "Fig. 3", "e.g."), or inside a number ("0.5").

    Args:
        text: text of one summary.
        separator: split only at this text, such as ``<n>``, and remove it; a line break within a sentence becomes a
            space.
        any_script: also split after the full stops, question and exclamation marks of other scripts.

    Returns:
        The sentences, stripped of white space and not empty.
    """
    if separator:
        pieces = [" ".join(piece.split()) for piece in text.split(separator)]
    else:
        any_case = text == text.lower() and not _TOKENISED.search(text + " ")
        lines = re.split(r"[\r\n]+", text)
        if any_script:
            lines = [part for line in lines for part in _split_after(_OTHER_SCRIPTS, line)]
        pieces = [piece for line in lines for piece in _split_line(line, any_case)]
    return [piece.strip() for piece in pieces if piece.strip()]


def _split_after(marks: re.Pattern[str], line: str) -> list[str]:
    edges = [0, *(match.end() for match in marks.finditer(line)), len(line)]
    return [line[start:end] for start, end in zip(edges, edges[1:])]


def _split_line(line: str, any_case: bool) -> list[str]:
    cuts = {match.end() for match in _TOKENISED.finditer(line)}
    for match in _ATTACHED.finditer(line):
        follower = match.group(1)
        starts = follower.isupper() or follower.isdigit() or follower in "\"'“‘([" or any_case
        if starts and not _inside_sentence(line[: match.start()], match.group(0)):
            cuts.add(match.end())
    edges = [0, *sorted(cuts), len(line)]
    return [line[start:end] for start, end in zip(edges, edges[1:])]


def _inside_sentence(before: str, mark: str) -> bool:
    """Return whether the full stop after ``before`` belongs to an abbreviation."""
    last = _LAST_WORD.search(before)
    word = last.group(0) if last else ""
    if mark.strip() != "." or not word:
        return False
    return (len(word) == 1 and word.isupper()) or _ABBREVIATION.fullmatch(word) is not None
