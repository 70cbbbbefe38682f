(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const form = byId("filter");
  if (!form) return;
  const text = byId("filter-text");
  const outcome = byId("filter-outcome");
  const button = byId("filter-open");
  const count = byId("filter-count");
  const examples = [...document.querySelectorAll("details.example")].map((element) => ({
    element,
    words: element.textContent.toLowerCase(),
  }));

  const update = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { element, words } of examples) {
      const fits =
        (!outcome.value || element.dataset.outcome === outcome.value) && wanted.every((word) => words.includes(word));
      element.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.value = `${shown} of ${examples.length} shown`;
  };

  text.addEventListener("input", update);
  outcome.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    const open = button.dataset.all !== "open";
    for (const { element } of examples) element.open = open;
    button.dataset.all = open ? "open" : "";
    button.textContent = open ? "Close all" : "Open all";
  });
  form.hidden = false;
  // A reload keeps what was typed.
  update();
})();
