/** The number of the darkest shade; 0 is no shade. */
const LEVELS = 9;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en").format;

/** Return the shade of a weight on a scale from 0 to `end`. */
function level(weight, end) {
  return end > 0 ? Math.max(0, Math.min(LEVELS, Math.floor((LEVELS * weight) / end + 0.5))) : 0;
}

/** Format a share as a percentage, with one decimal below ten. */
function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1 %";
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

/** Format a weight with as many decimals as necessary. */
function decimal(weight) {
  if (weight === 0 || weight === 1) return String(weight);
  return weight >= 0.01 ? weight.toFixed(2) : weight.toPrecision(1);
}

/** Create an element. All text of the report is inserted here, as text and not as HTML. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Append a span for each word to `parent`, and return the spans; `words[i].index` is i. */
function appendWords(parent, text, spaces, start, end, words) {
  for (let i = start; i < end; i++) {
    const span = element("span", "word", text[i]);
    span.index = i;
    words[i] = span;
    parent.append(span);
    if (spaces[i]) parent.append(" ");
  }
}

/** Make `next` the only word of its region in the tab order. */
function roveTo(previous, next) {
  if (previous) previous.removeAttribute("tabindex");
  if (next) next.tabIndex = 0;
  return next;
}

/** Scroll smoothly if it is near. Otherwise jump, and repeat in the next frames while blocks get their heights. */
function scrollToWord(word) {
  const near = Math.abs(word.getBoundingClientRect().top) < 3 * innerHeight;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (near && !calm) {
    word.scrollIntoView({ block: "center", behavior: "smooth" });
    return;
  }
  let frames = 10;
  const jump = () => {
    word.scrollIntoView({ block: "center", behavior: "instant" });
    if (frames-- > 0) requestAnimationFrame(jump);
  };
  jump();
}
