/** Search in the document that ignores case and line breaks. */
class Search {
  constructor(words, spaces) {
    this.words = words;
    this.spaces = spaces;
    this.matches = []; // [first word, last word] of each
    this.current = -1;
    this.marked = [];
  }

  /** Return all non-overlapping occurrences of a text. */
  find(query) {
    const wanted = query.toLowerCase().trim().split(/\s+/).join(" ");
    this.text ?? this.join();
    this.matches = [];
    let at = wanted ? this.text.indexOf(wanted) : -1;
    while (at >= 0) {
      const end = at + wanted.length;
      this.matches.push([this.wordAt(at), this.wordAt(end - 1)]);
      at = this.text.indexOf(wanted, end);
    }
    this.current = this.matches.length ? 0 : -1;
    this.mark();
  }

  /** Return the text in lower case, and the start of each word. */
  join() {
    this.starts = [];
    const parts = this.words.map((word, i) => word.textContent.toLowerCase() + (this.spaces[i] ? " " : ""));
    let length = 0;
    for (const part of parts) {
      this.starts.push(length);
      length += part.length;
    }
    this.text = parts.join("");
  }

  /** Return the last word that starts at or before a character. */
  wordAt(character) {
    let [low, high] = [0, this.starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= character) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Go to the next match, or with -1 to the previous one, and wrap around. */
  step(by) {
    if (!this.matches.length) return;
    this.current = (this.current + by + this.matches.length) % this.matches.length;
    this.mark();
  }

  mark() {
    for (const word of this.marked) word.classList.remove("match", "current");
    this.marked = [];
    this.matches.forEach(([first, last], number) => {
      for (const word of this.words.slice(first, last + 1)) {
        word.classList.add("match");
        word.classList.toggle("current", number === this.current || word.classList.contains("current"));
        this.marked.push(word);
      }
    });
  }

  show() {
    if (this.current >= 0) scrollToWord(this.words[this.matches[this.current][0]]);
  }
}

/** Set up the search box: it searches while typing, Enter goes to the next match, Escape clears the box. */
function listenToSearch(currentView) {
  const box = byId("query");
  const tell = () => {
    const { matches, current } = currentView().search;
    const many = matches.length === 1 ? "1 match" : `${count(matches.length)} matches`;
    const found = matches.length ? `${count(current + 1)} of ${many}` : "no match";
    byId("matches").textContent = box.value.trim() ? found : "";
    for (const button of [byId("before"), byId("after")]) button.hidden = !matches.length;
  };
  const find = () => {
    currentView().search.find(box.value);
    tell();
  };
  const step = (by) => {
    currentView().search.step(by);
    currentView().search.show();
    tell();
  };
  box.addEventListener("input", () => {
    find();
    currentView().search.show();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
    if (event.key !== "Escape" || !box.value) return;
    event.preventDefault();
    event.stopPropagation(); // what is lit stays lit
    box.value = "";
    find();
  });
  byId("before").onclick = () => step(-1);
  byId("after").onclick = () => step(1);
  return find;
}
