/** Words with at least this probability of having been copied count as copied. */
const COPIED = 0.5;

/** Return whether a word of the summary was copied; false for models without a pointer. */
function isCopied({ copied }, index) {
  return index < copied.length && copied[index] >= COPIED;
}

/** Return whether a word of the summary is not in the document. */
function isUnsupported({ unsupported }, index) {
  return Boolean(unsupported[index]);
}

/** Fill the summary with an option of a list box per word, one of which is in the tab order. */
function buildSummary(explanation, container) {
  const { words: text, space_after: spaces } = explanation.summary;
  const words = new Array(text.length);
  const fragment = document.createDocumentFragment();
  appendWords(fragment, text, spaces, 0, text.length, words);
  for (const word of words) {
    word.isSummary = true;
    word.setAttribute("role", "option");
    word.setAttribute("aria-selected", "false");
    word.classList.toggle("copied", isCopied(explanation.summary, word.index));
    word.classList.toggle("unsupported", isUnsupported(explanation.summary, word.index));
  }
  if (!words.length) fragment.append(element("em", "", "The summary is empty."));
  container.replaceChildren(fragment);
  container.setAttribute("aria-label", `Summary of ${words.length} words, word by word`);
  explainMarks(explanation.summary, container);
  return words;
}

/** Explain the lines below words: underlines for a model with a pointer, wavy lines if words were compared. */
function explainMarks(summary, container) {
  const points = summary.copied.length > 0;
  const marked = summary.copied.filter((_, i) => isCopied(summary, i)).length;
  byId("copied-legend").hidden = !points;
  byId("copied-count").textContent = `${count(marked)} of ${count(summary.words.length)} words`;
  const compared = summary.unsupported.length > 0;
  byId("unsupported-legend").hidden = !compared;
  byId("unsupported-sample").hidden = !summary.unsupported.some(Boolean);
  byId("unsupported-count").textContent = countUnsupported(summary.unsupported);
  const legends = [points ? "copied-legend" : "", compared ? "unsupported-legend" : "", "summary-help"];
  container.setAttribute("aria-describedby", legends.filter(Boolean).join(" "));
}

/** Describe how many words, numbers and capitalised words are not in the document. */
function countUnsupported(kinds) {
  const found = kinds.filter(Boolean);
  if (!found.length) return "The document contains every word of the summary.";
  const of = (kind) => found.filter((other) => other === kind).length;
  const [numbers, capitalised] = [of("number"), of("capitalised")];
  const words = kinds.length === 1 ? "word" : "words";
  const parts = [`${count(found.length)} of ${count(kinds.length)} ${words}`];
  if (numbers) parts.push(`${count(numbers)} with a digit: check ${numbers === 1 ? "it" : "them"}`);
  if (capitalised) parts.push(`${count(capitalised)} capitalised: perhaps ${capitalised === 1 ? "a name" : "names"}`);
  return `${parts.join("; ")}.`;
}

/** Return the word that an arrow key leads to. */
function neighbour(words, word, key, rightToLeft) {
  const forward = rightToLeft ? "ArrowLeft" : "ArrowRight";
  const backward = rightToLeft ? "ArrowRight" : "ArrowLeft";
  if (key === "Home") return words[0];
  if (key === "End") return words[words.length - 1];
  if (key === forward || (key === "ArrowDown" && word.isSummary)) return words[word.index + 1];
  if (key === backward || (key === "ArrowUp" && word.isSummary)) return words[word.index - 1];
  return undefined;
}

/** Handle the pointer, clicks and keys in a region of words, until the view is closed. */
function listenTo(region, view, words, rove) {
  const { lighting } = view;
  const at = (event) => event.target.closest?.(".word") ?? null;
  const on = (name, react) => region.addEventListener(name, react, { signal: view.closing.signal });
  on("pointerover", (event) => event.pointerType !== "touch" && lighting.set("pointed", at(event)));
  on("pointerleave", () => lighting.set("pointed", null));
  on("focusin", (event) => lighting.set("focused", at(event)));
  on("focusout", () => lighting.set("focused", null));
  on("click", (event) => {
    const word = at(event);
    if (!word) return;
    rove(word);
    lighting.toggle(word);
  });
  on("keydown", (event) => {
    const word = at(event);
    if (word && !event.ctrlKey && !event.altKey && !event.metaKey && pressed(event.key, word)) event.preventDefault();
  });

  /** Handle a key, and return whether it has a meaning. */
  function pressed(key, word) {
    const next = neighbour(words, word, key, getComputedStyle(word.parentElement).direction === "rtl");
    if (next) {
      rove(next);
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: word.isSummary ? "nearest" : "center" });
    } else if (key === "Enter" || key === " ") {
      lighting.toggle(word);
    }
    return Boolean(next) || key === "Enter" || key === " ";
  }
}
