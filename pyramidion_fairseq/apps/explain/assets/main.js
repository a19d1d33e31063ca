const MEANINGS = {
  pooling:
    "How much of each word is left after this layer, where the model puts many words into few vectors. 1: a vector " +
    "holds this word alone. 0: nothing of it is left.",
  decoder:
    "How much of each word is left in the vectors that the summary is written from. 1: a vector holds this word " +
    "alone. 0: nothing of it is left.",
  used: "How much the summary drew on each word while it was written. 1: the word that it drew on most.",
};

/** Whether the explanations are those of several models for one document. */
const sideBySide = byId("beside").dataset.models === "true";
const explanations = JSON.parse(byId("data").textContent);
let view = null;
let stage = 0;
const findAgain = listenToSearch(() => view);

function end(weights) {
  return byId("same").checked ? 1 : weights.reduce((most, weight) => Math.max(most, weight), 0);
}

/** Merge each stage with the one before if their numbers are equal. */
function mergeStages(stages) {
  const merged = [];
  for (const { name, kind, weights } of stages) {
    const last = merged[merged.length - 1];
    const same = last && kind !== "used" && last.kind !== "used" && weights.every((w, i) => w === last.weights[i]);
    if (same) Object.assign(last, { name: `${last.name}, ${name}`, kind });
    else merged.push({ name, kind, weights });
  }
  return merged;
}

/** Shade the words of the document by the chosen stage. */
function shade() {
  const chosen = view.stages[stage];
  const weights = chosen ? chosen.weights : [];
  const scale = end(weights);
  view.lighting.darken();
  weights.forEach((weight, i) => {
    view.words[i].className = `word s${level(weight, scale)}`;
  });
  view.map.shade(weights);
  view.lighting.light();
  view.search.mark();
  drawScale(scale, byId("scale"));
  byId("meaning").textContent = chosen ? (MEANINGS[chosen.kind] ?? "") : "";
}

function buildStages(stages) {
  stage = Math.max(0, Math.min(stage, stages.length - 1));
  byId("stages").replaceChildren(
    ...stages.map(({ name }, i) => {
      const label = element("label", "", name);
      const radio = element("input");
      Object.assign(radio, { type: "radio", name: "stage", value: i, checked: i === stage });
      radio.onchange = () => {
        stage = i;
        shade();
      };
      label.append(radio);
      return label;
    }),
  );
}

function describeModel({ model, summary, document: data, truncated, unlisted }) {
  const parts = [`${count(data.words.length + unlisted)} words`, model.name];
  parts.push(`pooler ${model.pooler}`, `scorer ${model.scorer}`, model.points ? "copies words" : "");
  if (summary.score !== null) parts.push(`score ${summary.score.toFixed(2).replace("-", "−")} (log probability per token; closer to 0 is more certain)`);
  if (truncated) parts.push(`${count(truncated + unlisted)} words not read`);
  byId("facts").textContent = parts.filter(Boolean).join(" · ");
  byId("notice").textContent = model.note;
  byId("notice").hidden = !model.note;
  byId("notice").className = model.exact ? "caveat" : "notice";
}

/** The word of each region that is in the tab order. */
function rovingIn(words) {
  let current = roveTo(null, words[0]);
  return (word) => {
    current = roveTo(current, word);
  };
}

function showSentence(sentence, rove) {
  const [start, stop] = view.explanation.document.sentences[sentence];
  for (const found of document.querySelectorAll(".found")) found.classList.remove("found");
  for (let i = start; i < stop; i++) view.words[i].classList.add("found");
  rove(view.words[start]);
  view.words[start].focus({ preventScroll: true });
  scrollToWord(view.words[start]);
}

/** Show a document. */
function show(number) {
  const explanation = explanations[number];
  const words = buildDocument(explanation, byId("document"));
  const read = words.length - explanation.truncated;
  view?.closing.abort();
  view = { explanation, words, read, summaryWords: buildSummary(explanation, byId("summary")) };
  view.stages = mergeStages(explanation.stages);
  view.closing = new AbortController();
  view.map = new DocumentMap(byId("map"), words, read);
  view.lighting = new Lighting(view);
  view.search = new Search(words, explanation.document.space_after);
  byId("title").textContent = explanation.title || "Untitled document";
  byId("summary-count").textContent = `${count(view.summaryWords.length)} words`;
  byId("reference").textContent = explanation.reference ?? "";
  byId("reference-section").hidden = !explanation.reference;
  describeModel(explanation);
  drawLengths(explanation.lengths, byId("lengths"));
  buildStages(view.stages);
  const roveDocument = rovingIn(words);
  const ranked = buildRanking(explanation, byId("ranking"), byId("more"), (i) => showSentence(i, roveDocument));
  byId("ranking-section").hidden = !ranked;
  listenTo(byId("document"), view, words, roveDocument);
  listenTo(byId("summary"), view, view.summaryWords, rovingIn(view.summaryWords));
  shade();
  view.lighting.update(); // says that nothing is lit
  findAgain();
  byId("saved").textContent = "";
  if (sideBySide) markBeside(number);
  byId("chosen").value = number;
  byId("previous").disabled = number === 0;
  byId("next").disabled = number === explanations.length - 1;
}

function buildChooser() {
  byId("chooser").hidden = explanations.length < 2;
  byId("chosen").replaceChildren(
    ...explanations.map((explanation, i) => {
      const name = sideBySide ? modelName(explanation) : explanation.title || "Untitled document";
      const option = element("option", "", `${i + 1}. ${name}`);
      option.value = i;
      return option;
    }),
  );
  byId("chosen").onchange = (event) => show(Number(event.target.value));
  byId("previous").onclick = () => show(Number(byId("chosen").value) - 1);
  byId("next").onclick = () => show(Number(byId("chosen").value) + 1);
}

byId("same").onchange = shade;
byId("map").onclick = (event) => {
  const word = view.map.wordAt(event.clientX);
  if (word) scrollToWord(word);
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") view.lighting.clear();
});
listenToSaving(() => view);
buildChooser();
if (sideBySide) {
  byId("chooser-label").textContent = "Model";
  buildBeside(explanations, show);
}
show(0);
