let speaking = 0;

/** What the chosen word draws on or fed: in the toolbar for the eye, and as a sentence for screen readers. */
function describe(view, word, partners) {
  const [lead, rest] = word ? sentenceOf(view, word, partners) : ["", ""];
  const line = element("span", word ? "lead" : "idle", word ? "" : "Point at a word of the summary for its sources, at one of the document for what it fed.");
  if (word) line.append(element("b", "", `“${word.textContent}”`), ` ${lead}`);
  const others = word && word.isSummary ? view.words : view.summaryWords;
  const chips = partners.slice(0, CHIPS).map(([index, weight]) => chip(others[index], weight));
  const more = partners.length > CHIPS ? [element("span", "rest", `+ ${partners.length - CHIPS}`)] : [];
  const pinned = view.lighting?.pinned ? [element("span", "pinned", "kept lit · Escape or another click lets go")] : [];
  byId("sources").replaceChildren(line, ...chips, ...more, ...pinned);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    byId("live").textContent = word ? `${word.textContent} ${lead} ${rest}` : "";
  }, 200);
}

/** [what it is about, the words on the other side]. */
function sentenceOf(view, word, partners) {
  const others = word.isSummary ? view.words : view.summaryWords;
  const named = partners.slice(0, CHIPS).map(([i, weight]) => `${others[i].textContent} ${percent(weight)}`);
  const listed = named.join(", ");
  if (word.isSummary) {
    const total = partners.reduce((sum, [, weight]) => sum + weight, 0);
    const words = partners.length === 1 ? "1 word" : `${partners.length} words`;
    return partners.length ? [`drew ${percent(total)} of its attention from ${words}:`, listed] : ["has no sources.", ""];
  }
  if (word.index >= view.read) return ["was not read by the model.", ""];
  const left = view.explanation.stages.map(({ name, weights }) => `${decimal(weights[word.index])} ${name}`);
  const fed = partners.length === 1 ? "fed 1 summary word:" : `fed ${partners.length} summary words:`;
  return [`${left.join(" · ")}; ${partners.length ? fed : "no summary word has it among its sources."}`, listed];
}

function chip(word, weight) {
  const button = element("button", "", `${word.textContent} `);
  button.type = "button";
  button.append(element("span", "amount", percent(weight)));
  button.onclick = () => {
    for (const found of document.querySelectorAll(".found")) found.classList.remove("found");
    word.classList.add("found");
    scrollToWord(word);
  };
  return button;
}
