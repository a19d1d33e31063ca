(() => {
  "use strict";
  const [form, submit, state, cancel, text] = ["form", "submit", "state", "cancel", "text"].map((id) => document.getElementById(id));
  const idle = state.textContent;
  let timer = 0;

  form.addEventListener("submit", () => {
    const start = Date.now();
    submit.disabled = true;
    cancel.hidden = false;
    const tell = () => {
      state.textContent = `Reading and summarising: ${Math.round((Date.now() - start) / 1000)} s`;
    };
    tell();
    timer = setInterval(tell, 1000);
  });
  const rest = (message) => {
    clearInterval(timer);
    submit.disabled = false;
    cancel.hidden = true;
    state.textContent = message;
  };
  cancel.addEventListener("click", () => {
    stop(); // the server ends its work when the browser leaves
    rest("Cancelled.");
  });
  // Coming back with the browser's own button finds the page as it was left.
  addEventListener("pageshow", () => rest(idle));

  // A report's "edit this document" leaves its text here, in this tab alone.
  const draft = sessionStorage.getItem("draft");
  if (location.search === "?edit" && draft !== null) text.value = draft;
})();
