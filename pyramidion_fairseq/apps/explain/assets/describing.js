let speaking = 0;

/** Description of the chosen word's sources or uses, in the toolbar and as sentences for screen readers. */
function describe(view, word, partners, places) {
  const clauses = word ? clausesOf(view, word, partners, places) : [];
  const others = word && word.isSummary ? view.words : view.summaryWords;
  const shown = clauses.flatMap(({ lead, pairs, kind }, i) => {
    const line = element("span", "lead", i ? lead : "");
    if (!i) line.append(element("b", "", `“${word.textContent}”`), ` ${lead}`);
    const chips = pairs.slice(0, CHIPS).map(([index, weight]) => chip(others[index], weight, kind));
    const more = pairs.length > CHIPS ? [element("span", "rest", `+ ${pairs.length - CHIPS}`)] : [];
    return [line, ...chips, ...more];
  });
  if (!word) {
    const idle = "Point at a word of the summary for its sources, at one of the document for what it fed.";
    shown.push(element("span", "idle", idle));
  }
  if (view.lighting?.pinned) shown.push(element("span", "pinned", "kept lit · Escape or another click lets go"));
  byId("sources").replaceChildren(...shown);
  const said = clauses.map((clause) => spoken(clause, others));
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    byId("live").textContent = word ? [word.textContent, ...said].join(" ") : "";
  }, 200);
}

function spoken({ lead, pairs }, others) {
  const named = pairs.slice(0, CHIPS).map(([i, weight]) => `${others[i].textContent} ${percent(weight)}`);
  return `${lead} ${named.join(", ")}`;
}

/** Return the statements about a word, each with the words of the other side. */
function clausesOf(view, word, partners, places) {
  return word.isSummary ? ofSummaryWord(view, word, partners, places) : ofDocumentWord(view, word, partners, places);
}

function ofSummaryWord({ explanation: { summary } }, word, partners, places) {
  const lacking = isUnsupported(summary, word.index) ? [{ lead: "is not in the document.", pairs: [] }] : [];
  return [...lacking, ...ofItsSources(summary, word, partners, places, lacking.length ? "It " : "")];
}

function ofItsSources(summary, word, partners, places, subject) {
  const total = partners.reduce((sum, [, weight]) => sum + weight, 0);
  const words = partners.length === 1 ? "1 word" : `${partners.length} words`;
  const drew = partners.length ? `drew ${percent(total)} of its attention from ${words}:` : "has no sources.";
  if (!summary.copied.length) return [{ lead: `${subject}${drew}`, pairs: partners }];
  const share = percent(summary.copied[word.index]);
  if (!isCopied(summary, word.index)) {
    return [{ lead: `${subject}was written, not copied (probability of a copy ${share}). It ${drew}`, pairs: partners }];
  }
  const from = places.length ? ", from:" : ".";
  const copied = { lead: `${subject}was copied from the document (probability ${share})${from}`, pairs: places, kind: "place" };
  return [copied, { lead: `It ${drew}`, pairs: partners }];
}

function ofDocumentWord(view, word, partners, places) {
  if (word.index >= view.read) return [{ lead: "was not read by the model.", pairs: [] }];
  const stages = view.stages.map(({ name, weights }) => `${decimal(weights[word.index])} ${name}`);
  const left = stages.join(" · ");
  const many = (pairs) => (pairs.length === 1 ? "1 summary word" : `${pairs.length} summary words`);
  const fed = partners.length ? `fed ${many(partners)}:` : "no summary word has it among its sources.";
  if (!places.length) return [{ lead: `${left}; ${fed}`, pairs: partners }];
  const copied = { lead: `${left}; copied into ${many(places)}:`, pairs: places, kind: "place" };
  return [copied, { lead: fed, pairs: partners }];
}

function chip(word, weight, kind) {
  const button = element("button", kind ?? "", `${word.textContent} `);
  button.type = "button";
  button.append(element("span", "amount", percent(weight)));
  button.onclick = () => {
    for (const found of document.querySelectorAll(".found")) found.classList.remove("found");
    word.classList.add("found");
    scrollToWord(word);
  };
  return button;
}
