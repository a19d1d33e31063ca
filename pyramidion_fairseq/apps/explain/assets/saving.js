/** The original page, before the script draws anything, without links to a server. */
const PRISTINE = document.documentElement.cloneNode(true);

function textOf({ words, space_after: spaces }) {
  return words.map((word, i) => word + (spaces[i] ? " " : "")).join("").trim();
}

/** Return the explanation as the JSON of the commands, with the page's numbers, which have four digits. */
function jsonOf(explanation) {
  const { unlisted, ...rest } = explanation;
  return `${JSON.stringify(rest)}\n`;
}

function htmlOf(pristine) {
  for (const link of pristine.querySelectorAll(".server")) link.remove();
  return `<!doctype html>\n${pristine.outerHTML}\n`;
}

/** Make a file name from the letters and digits of a title. */
function fileName(title, ending) {
  const name = (title ?? "").normalize("NFKC").replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").slice(0, 60);
  return `${name.replace(/^-+|-+$/g, "") || "summary"}${ending}`;
}

/** Download a text as a file, without any request. */
function save(text, name, type) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Copy a text. If the page may not use the clipboard, select the element that shows the text instead. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied.";
  } catch {
    getSelection().selectAllChildren(shown);
    return "Selected: copy it with Ctrl+C.";
  }
}

/** Return the document as plain text with separate sections, for the server's form. */
function documentText({ words, space_after: spaces, sections }) {
  const starts = new Set(sections.map(({ start }) => start));
  return words.map((word, i) => (i && starts.has(i) ? "\n\n" : "") + word + (spaces[i] ? " " : "")).join("").trim();
}

function listenToSaving(currentView) {
  const shown = () => currentView().explanation;
  const tell = (message) => {
    byId("saved").textContent = message;
  };
  const saved = (text, ending, type) => {
    const name = fileName(shown().title, ending);
    save(text, name, type);
    tell(`Saved as ${name}.`);
  };
  byId("edit")?.addEventListener("click", () => {
    sessionStorage.removeItem("draft");
    sessionStorage.setItem("draft", documentText(shown().document));
  });
  byId("copy").onclick = async () => tell(await copy(textOf(shown().summary), byId("summary")));
  byId("save-text").onclick = () => saved(`${textOf(shown().summary)}\n`, ".txt", "text/plain");
  byId("save-json").onclick = () => saved(jsonOf(shown()), ".json", "application/json");
  byId("save-page").onclick = () => saved(htmlOf(PRISTINE), ".html", "text/html");
}
