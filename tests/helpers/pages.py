"""Read explanation pages, and make hostile ones."""

import json
from html.parser import HTMLParser

from pyramidion_fairseq.apps.explain import DocumentWords, Explanation, ModelFacts, Section, Stage, SummaryWords

HOSTILE = (
    "</script><script>window.bad=1</script> <img src=x onerror=window.bad=1> <!--<script> ]]> &lt;b&gt; {{data}} "
    "${window.bad=1} \u2028 javascript:bad \ud800 <svg/onload=window.bad=1> \x00nul \\u003cb"
)


class Structure(HTMLParser):
    """A parser that lists every element with its attributes and the text directly inside it."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.inside = [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.elements[-1][2] += data

    def all(self, tag):
        return [element for element in self.elements if element[0] == tag]


def data_of(page):
    (data,) = [text for _, attributes, text in Structure(page).all("script") if attributes.get("id") == "data"]
    return json.loads(data)


def hostile_explanation():
    words = tuple(HOSTILE.split(" "))
    return Explanation(
        title=HOSTILE,
        document=DocumentWords(words, (True,) * len(words), ((0, len(words)),), (Section(HOSTILE, 0, len(words)),)),
        lengths=(),
        stages=(Stage(HOSTILE, "used", tuple(i / len(words) for i in range(len(words)))),),
        summary=SummaryWords(words, (True,) * len(words), None, tuple(((i, 1.0),) for i in range(len(words)))),
        ranking=(),
        model=ModelFacts(HOSTILE, HOSTILE, HOSTILE, False, HOSTILE),
    )
