/** Number of words after which a block of the page may end, and must end. Documents have no paragraphs. */
const BLOCK = 90;
const LONGEST_BLOCK = 400;

/** Return the starts of blocks: sections, sentences after long enough blocks, and the end of what the model read. */
function blockStarts(data, read) {
  const forced = new Set([read]);
  for (const section of data.sections) forced.add(section.start).add(section.end);
  const ends = new Set(data.sentences.map((sentence) => sentence[1]));
  const starts = [0];
  for (let i = 1; i < data.words.length; i++) {
    const length = i - starts[starts.length - 1];
    const full = length >= BLOCK && (ends.has(i) || !ends.size);
    if (forced.has(i) || full || length >= LONGEST_BLOCK) starts.push(i);
  }
  return starts;
}

/** Fill the article, and return the spans of all words. */
function buildDocument(explanation, container) {
  const data = explanation.document;
  const read = data.words.length - explanation.truncated;
  const headings = new Map(data.sections.map((section) => [section.start, section.name]));
  const words = new Array(data.words.length);
  const fragment = document.createDocumentFragment();
  const starts = data.words.length ? blockStarts(data, read) : [];
  let sentence = 0;
  starts.forEach((start, number) => {
    if (start === read) fragment.append(cutNote(explanation));
    if (headings.get(start)) fragment.append(headed(headings.get(start)));
    const block = element("p", start >= read ? "unread" : "");
    while (sentence < data.sentences.length && data.sentences[sentence][0] < start) sentence++;
    if (data.sentences[sentence]?.[0] === start) block.append(sentenceNumber(sentence));
    block.dir = "auto";
    appendWords(block, data.words, data.space_after, start, starts[number + 1] ?? data.words.length, words);
    fragment.append(block);
  });
  if (explanation.unlisted) {
    fragment.append(element("p", "cut", `${count(explanation.unlisted)} more words, which the model did not read either, are not listed.`));
  }
  container.replaceChildren(fragment);
  return words;
}

function headed(name) {
  const heading = element("h3", "", name);
  heading.dir = "auto";
  return heading;
}

function sentenceNumber(sentence) {
  const number = element("span", "number");
  number.dataset.number = sentence + 1;
  number.setAttribute("aria-hidden", "true");
  return number;
}

function cutNote(explanation) {
  const rest = explanation.truncated + explanation.unlisted;
  const words = rest === 1 ? "word" : "words";
  return element("p", "cut", `The model read up to here. The ${count(rest)} ${words} that follow it did not read.`);
}
