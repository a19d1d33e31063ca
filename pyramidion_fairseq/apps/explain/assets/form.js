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
  // Restore the form after the browser's back button.
  addEventListener("pageshow", () => rest(idle));

  // "Edit this document" of a report stores its text here, for this tab only.
  const draft = sessionStorage.getItem("draft");
  if (location.search === "?edit" && draft !== null) text.value = draft;
})();
