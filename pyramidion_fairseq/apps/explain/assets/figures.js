/** Draw the number of vectors at each stage as a funnel. */
function drawLengths(lengths, svg) {
  const [row, bar, left, right, width] = [30, 16, 104, 276, 384];
  const most = Math.max(1, ...lengths.map((length) => length.tokens));
  const parts = lengths.map((length, i) => {
    const half = Math.max(1, ((right - left) / 2) * (length.tokens / most));
    return { ...length, top: i * row, from: (left + right) / 2 - half, to: (left + right) / 2 + half };
  });
  const shapes = parts.slice(1).map((next, i) => {
    const { from, to, top } = parts[i];
    const points = [from, top + bar, to, top + bar, next.to, next.top, next.from, next.top].join(" ");
    return drawn("polygon", { class: "flow", points });
  });
  for (const { name, tokens, top, from, to } of parts) {
    const share = tokens === most ? "" : `  ${percent(tokens / most)}`;
    const amount = drawn("text", { x: right + 12, y: top + 12 }, count(tokens));
    amount.append(drawn("tspan", { class: "share", dx: share ? 6 : 0 }, share.trim()));
    const label = name.length > 16 ? `${name.slice(0, 15)}…` : name;
    shapes.push(drawn("text", { x: 0, y: top + 12 }, label), amount);
    shapes.push(drawn("rect", { class: "bar", x: from, y: top, width: to - from, height: bar, rx: 2 }));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${Math.max(1, lengths.length * row - (row - bar))}`);
  const spoken = lengths.map(({ name, tokens }) => `${name} ${count(tokens)}`).join(", ");
  svg.setAttribute("aria-label", `Vectors that are left: ${spoken}`);
  svg.replaceChildren(...shapes);
}

/** Draw the scale of the shades. */
function drawScale(end, list) {
  list.setAttribute("aria-label", `Shades from 0 to ${decimal(end)} in ${LEVELS} steps`);
  list.replaceChildren(
    ...Array.from({ length: LEVELS + 1 }, (_, i) => {
      const item = element("li");
      item.append(element("span", `word s${i}`), i % 3 ? "" : decimal((end * i) / LEVELS));
      return item;
    }),
  );
}

/** Map of the weights over the document. A click scrolls to the position. */
class DocumentMap {
  constructor(svg, words, read) {
    this.svg = svg;
    this.words = words;
    this.size = Math.max(1, Math.min(words.length, 300));
    this.bins = Array.from({ length: this.size }, (_, i) => drawn("rect", { class: "bin", x: i, width: 0.8 }));
    this.ticks = drawn("g", {});
    const at = read * (this.size / Math.max(1, words.length));
    const unread = drawn("rect", { class: "unread", x: at, width: this.size - at, y: 0, height: 30 });
    svg.setAttribute("viewBox", `0 0 ${this.size} 30`);
    svg.replaceChildren(unread, ...this.bins, this.ticks);
  }

  /** Draw bars of the mean weight of their words; the highest bar has 24 of 30 pixels. */
  shade(weights) {
    const sums = new Float64Array(this.size);
    const counts = new Float64Array(this.size);
    weights.forEach((weight, i) => {
      const bin = this.binOf(i);
      sums[bin] += weight;
      counts[bin]++;
    });
    const means = sums.map((sum, bin) => sum / Math.max(1, counts[bin]));
    const most = Math.max(...means);
    this.bins.forEach((rect, bin) => {
      const height = most > 0 ? (24 * means[bin]) / most : 0;
      rect.setAttribute("y", 30 - height);
      rect.setAttribute("height", height);
    });
  }

  /** Draw ticks for highlighted words, given as pairs of word and level; the highest are positions of copying. */
  light(pairs, places = []) {
    const width = Math.max(0.8, this.size / 250);
    const tick = (kind, word, height) => drawn("rect", { class: kind, x: this.binOf(word), width, y: 0, height });
    this.ticks.replaceChildren(
      ...pairs.map(([word, shade]) => tick("tick", word, 6 + shade * 2.5)),
      ...places.map((word) => tick("place", word, 30)),
    );
  }

  binOf(word) {
    return Math.floor((word * this.size) / this.words.length);
  }

  wordAt(clientX) {
    const { left, width } = this.svg.getBoundingClientRect();
    const share = Math.max(0, Math.min(0.9999, (clientX - left) / Math.max(1, width)));
    return this.words[Math.floor(share * this.words.length)];
  }
}
