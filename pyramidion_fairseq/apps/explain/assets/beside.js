/** Describe a model by its name and the number of vectors that it keeps. */
function modelName({ model, lengths }) {
  return `${model.name}: ${lengths.map(({ tokens }) => count(tokens)).join(" → ")} vectors`;
}

/** Return the share of the first model's kept words that another, which may have read fewer, keeps; null if one has none. */
function keptByBoth(first, other) {
  const [one, two] = [first, other].map(({ stages }) => stages.filter(({ kind }) => kind !== "used").pop()?.weights);
  if (!one || !two) return null;
  const total = one.reduce((sum, weight) => sum + weight, 0);
  return total > 0 ? one.reduce((sum, weight, i) => sum + Math.min(weight, two[i] ?? 0), 0) / total : null;
}

/** Return figures for the comparison of summaries. */
function compareFacts(explanation, first) {
  const { summary } = explanation;
  const copied = summary.copied.filter((_, i) => isCopied(summary, i)).length;
  const lacking = summary.unsupported.filter(Boolean).length;
  const parts = [`${count(summary.words.length)} words`];
  if (summary.copied.length) parts.push(`${count(copied)} copied`);
  if (summary.unsupported.length) parts.push(`${count(lacking)} not in the document`);
  const kept = explanation === first ? null : keptByBoth(first, explanation);
  if (kept !== null) parts.push(`keeps ${percent(kept)} of what the first keeps`);
  return parts.join(" · ");
}

/** Show the summaries of several models side by side, each with a button that selects the model's explanation. */
function buildBeside(explanations, choose) {
  const cards = explanations.map((explanation, number) => {
    const card = element("article", "card");
    const button = element("button", "", modelName(explanation));
    button.type = "button";
    button.onclick = () => choose(number);
    const text = element("p", "text");
    Object.assign(text, { dir: "auto", tabIndex: 0 }); // it may be longer than the card, and scrolls
    const words = [];
    appendWords(text, explanation.summary.words, explanation.summary.space_after, 0, explanation.summary.words.length, words);
    words.forEach((word, i) => {
      word.className = isUnsupported(explanation.summary, i) ? "unsupported" : "";
    });
    card.append(button, text, element("p", "facts", compareFacts(explanation, explanations[0])));
    return card;
  });
  byId("beside").hidden = false;
  byId("cards").replaceChildren(...cards);
}

/** Mark the model whose explanation is shown. */
function markBeside(number) {
  [...byId("cards").children].forEach((card, i) => {
    card.classList.toggle("shown", i === number);
    card.firstChild.setAttribute("aria-pressed", String(i === number));
  });
}
