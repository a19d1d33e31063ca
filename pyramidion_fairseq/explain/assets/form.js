(() => {
  "use strict";
  const [form, submit, state] = ["form", "submit", "state"].map((id) => document.getElementById(id));
  const idle = state.textContent;
  let timer = 0;

  form.addEventListener("submit", () => {
    const start = Date.now();
    submit.disabled = true;
    const tell = () => {
      state.textContent = `Reading and summarising: ${Math.round((Date.now() - start) / 1000)} s`;
    };
    tell();
    timer = setInterval(tell, 1000);
  });
  // Coming back with the browser's own button finds the page as it was left.
  addEventListener("pageshow", () => {
    clearInterval(timer);
    submit.disabled = false;
    state.textContent = idle;
  });
})();
