const CHIPS = 8;

/** Invert the sources: Map of document word to a list of [summary word, weight]. */
function invert(sources) {
  const fed = new Map();
  sources.forEach((row, summaryWord) => {
    for (const [word, weight] of row) {
      if (!fed.has(word)) fed.set(word, []);
      fed.get(word).push([summaryWord, weight]);
    }
  });
  for (const row of fed.values()) row.sort((a, b) => b[1] - a[1]);
  return fed;
}

/** Return the positions that copied words of the summary came from; none for other words. */
function shownPlaces(summary) {
  return summary.places.map((row, i) => (isCopied(summary, i) ? row : []));
}

/** The chosen word (pinned, else hovered, else focused), and the words that it highlights on the other side. */
class Lighting {
  constructor(view) {
    this.view = view;
    this.fed = invert(view.explanation.summary.sources);
    this.copiedFrom = shownPlaces(view.explanation.summary);
    this.copiedInto = invert(this.copiedFrom);
    this.pinned = this.pointed = this.focused = null;
    this.shown = null;
    this.lit = [];
    this.places = [];
  }

  set(kind, word) {
    this[kind] = word;
    this.update();
  }

  /** Pin or unpin a word, on a click or Enter. */
  toggle(word) {
    this.set("pinned", this.pinned === word ? null : word);
    if (this.pinned && matchMedia("(min-width: 62.01rem)").matches) this.bringIntoView();
  }

  clear() {
    this.pinned = this.pointed = this.focused = null;
    this.update();
  }

  update() {
    const word = this.pinned ?? this.pointed ?? this.focused;
    if (word !== this.shown) {
      this.darken();
      this.shown = word;
      this.light();
    }
    this.marked?.setAttribute("aria-selected", "false");
    this.marked = this.pinned?.isSummary ? this.pinned : null;
    this.marked?.setAttribute("aria-selected", "true");
    describe(this.view, word, word ? this.partners(word) : [], word ? this.placesOf(word) : []);
  }

  /** Return [word, weight] of the other side, largest weights first. */
  partners(word) {
    if (word.isSummary) return this.view.explanation.summary.sources[word.index];
    return this.fed.get(word.index) ?? [];
  }

  /** Return [word, weight] that a word was copied from or into, largest weights first. */
  placesOf(word) {
    return (word.isSummary ? this.copiedFrom[word.index] : this.copiedInto.get(word.index)) ?? [];
  }

  light() {
    const word = this.shown;
    if (!word) return;
    const partners = this.partners(word);
    const others = word.isSummary ? this.view.words : this.view.summaryWords;
    const end = partners.length ? partners[0][1] : 0;
    this.lit = partners.map(([index, weight]) => [others[index], Math.max(1, level(weight, end))]);
    for (const [other, shade] of this.lit) other.classList.add("lit", `lit${shade}`);
    this.places = this.placesOf(word).map(([index]) => others[index]);
    for (const other of this.places) other.classList.add("place");
    word.classList.add("active");
    byId("document").classList.add("lighting");
    if (word.isSummary) {
      const ticks = this.lit.map(([other, shade]) => [other.index, shade]);
      this.view.map.light(ticks, this.places.map((other) => other.index));
    }
  }

  darken() {
    for (const [other, shade] of this.lit) other.classList.remove("lit", `lit${shade}`);
    for (const other of this.places) other.classList.remove("place");
    this.shown?.classList.remove("active");
    this.lit = [];
    this.places = [];
    byId("document").classList.remove("lighting");
    this.view.map.light([]);
  }

  /** Scroll to the position that the word was copied from, else to the strongest highlight, unless it is visible. */
  bringIntoView() {
    const top = byId("toolbar").getBoundingClientRect().bottom;
    const wanted = this.places.length ? this.places : this.lit.map(([word]) => word);
    const inSight = (word) => {
      const box = word.getBoundingClientRect();
      return box.top >= top && box.bottom <= innerHeight;
    };
    if (this.shown.isSummary && wanted.length && !wanted.some(inSight)) scrollToWord(wanted[0]);
  }
}
