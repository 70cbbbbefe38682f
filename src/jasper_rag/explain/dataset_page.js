(() => {
  "use strict";
  const marked = new Map();
  for (const element of document.querySelectorAll("[data-topic]")) {
    const topic = element.dataset.topic;
    if (!marked.has(topic)) marked.set(topic, []);
    marked.get(topic).push(element);
  }
  let single = null;
  const show = (topic) => {
    if (topic === single) return;
    for (const element of marked.get(single) ?? []) element.classList.remove("single");
    for (const element of marked.get(topic) ?? []) element.classList.add("single");
    document.body.classList.toggle("singled", topic !== null);
    single = topic;
  };
  const over = (event) => show(event.target.closest("[data-topic]")?.dataset.topic ?? null);
  for (const part of document.querySelectorAll(".map, .topics")) {
    part.addEventListener("pointerover", over);
    part.addEventListener("pointerleave", () => show(null));
  }
})();
