/** Fill the summary: one option of a list box per word, one of them in the tab order. */
function buildSummary(explanation, container) {
  const { words: text, space_after: spaces } = explanation.summary;
  const words = new Array(text.length);
  const fragment = document.createDocumentFragment();
  appendWords(fragment, text, spaces, 0, text.length, words);
  for (const word of words) {
    word.isSummary = true;
    word.setAttribute("role", "option");
    word.setAttribute("aria-selected", "false");
  }
  if (!words.length) fragment.append(element("em", "", "The summary is empty."));
  container.replaceChildren(fragment);
  container.setAttribute("aria-label", `Summary of ${words.length} words, word by word`);
  return words;
}

/** The word that an arrow key leads to. */
function neighbour(words, word, key, rightToLeft) {
  const forward = rightToLeft ? "ArrowLeft" : "ArrowRight";
  const backward = rightToLeft ? "ArrowRight" : "ArrowLeft";
  if (key === "Home") return words[0];
  if (key === "End") return words[words.length - 1];
  if (key === forward || (key === "ArrowDown" && word.isSummary)) return words[word.index + 1];
  if (key === backward || (key === "ArrowUp" && word.isSummary)) return words[word.index - 1];
  return undefined;
}

/** Pointing, clicking and keys in a region of words. */
function listenTo(region, view, words, rove) {
  const at = (event) => event.target.closest?.(".word") ?? null;
  const { lighting } = view;
  region.onpointerover = (event) => event.pointerType !== "touch" && lighting.set("pointed", at(event));
  region.onpointerleave = () => lighting.set("pointed", null);
  region.onfocusin = (event) => lighting.set("focused", at(event));
  region.onfocusout = () => lighting.set("focused", null);
  region.onclick = (event) => {
    const word = at(event);
    if (!word) return;
    rove(word);
    lighting.toggle(word);
  };
  region.onkeydown = (event) => {
    const word = at(event);
    if (!word || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = neighbour(words, word, event.key, getComputedStyle(word.parentElement).direction === "rtl");
    if (next) {
      rove(next);
      next.focus({ preventScroll: next.isSummary });
      next.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" || event.key === " ") {
      lighting.toggle(word);
    } else {
      return;
    }
    event.preventDefault();
  };
}
