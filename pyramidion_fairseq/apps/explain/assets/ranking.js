const FIRST_RANKS = 8;

/** List sentences by their use in the summary; `onChoose` gets the index of a sentence. */
function buildRanking(explanation, list, more, onChoose) {
  const { ranking, document: data } = explanation;
  const most = ranking.length ? ranking[0].weight : 0;
  const entries = (ranks) => ranks.map((rank) => rankEntry(rank, data, most, onChoose));
  list.replaceChildren(...entries(ranking.slice(0, FIRST_RANKS)));
  more.hidden = ranking.length <= FIRST_RANKS;
  more.textContent = `All ${count(ranking.length)} sentences`;
  more.onclick = () => {
    const added = entries(ranking.slice(FIRST_RANKS));
    list.append(...added);
    more.hidden = true;
    added[0].firstChild.focus();
  };
  return ranking.length > 0;
}

function rankEntry({ sentence, weight }, data, most, onChoose) {
  const [start, end] = data.sentences[sentence];
  const shown = Math.min(end, start + 40);
  let text = "";
  for (let i = start; i < shown; i++) text += data.words[i] + (data.space_after[i] ? " " : "");
  const button = element("button");
  button.type = "button";
  button.title = `Sentence ${count(sentence + 1)}: show it in the document`;
  const track = element("span", "track");
  const bar = element("span");
  bar.style.width = `${most > 0 ? (100 * weight) / most : 0}%`;
  track.append(bar);
  const words = element("span", "text", shown < end ? `${text.trim()} …` : text);
  words.dir = "auto";
  words.lang = "";
  button.append(element("span", "amount", percent(weight)), words, track);
  button.onclick = () => onChoose(sentence);
  const item = element("li");
  item.append(button);
  return item;
}
