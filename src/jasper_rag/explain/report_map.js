
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const explorer = byId("explorer");
  if (!explorer) return;
  const data = JSON.parse(byId("map-data").textContent);
  const { sources, questions } = data;
  const [stage, drawn, label, chosen] = ["map-stage", "map-drawn", "map-label", "map-chosen"].map(byId);
  const plot = stage.querySelector("svg");
  const picker = byId("map-picker");
  const state = { topic: "", question: -1, source: -1 };

  const place = (source) => [sources.x[source] / data.grain, sources.y[source] / data.grain];
  // Marks keep their size on the screen, however wide the map is.
  const unit = () => plot.viewBox.baseVal.width / (plot.clientWidth || 1);
  const svg = (name, attributes, text) => {
    const element = document.createElementNS(plot.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const html = (name, kind, text) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  /* Drawing */
  const arrow = ([x, y], [to, down], size) => {
    const length = Math.hypot(to - x, down - y);
    if (length < 2.5 * size) return [];
    const [across, along] = [(to - x) / length, (down - y) / length];
    const tip = [to - across * size, down - along * size];
    const back = [tip[0] - across * 1.3 * size, tip[1] - along * 1.3 * size];
    const wing = [-along * 0.65 * size, across * 0.65 * size];
    const head = `M${tip}L${back[0] + wing[0]},${back[1] + wing[1]}L${back[0] - wing[0]},${back[1] - wing[1]}z`;
    return [svg("path", { class: "shaft", d: `M${x},${y}L${back}` }), svg("path", { class: "head", d: head })];
  };
  const badge = (source, rank, size) => {
    const [x, y] = place(source);
    const kind = source === state.source ? "mark pointed-at" : "mark";
    const mark = svg("g", { class: kind, "data-source": source, "font-size": 1.15 * size });
    mark.append(svg("circle", { cx: x, cy: y, r: size }), svg("text", { x, y: y + 0.4 * size }, rank));
    return mark;
  };
  const draw = () => {
    const size = (plot.clientWidth < 480 ? 6.5 : 8.5) * unit();
    const parts = [];
    const question = questions[state.question];
    drawn.setAttribute("stroke-width", 1.6 * unit());
    if (question) {
      const [from, to] = question.ends.map((end) => end.map((grains) => grains / data.grain));
      for (const source of question.hits) parts.push(svg("path", { class: "ray", d: `M${to}L${place(source)}` }));
      parts.push(...arrow(from, to, 1.1 * size));
      // The best hit on top of the others.
      parts.push(...question.hits.map((source, rank) => badge(source, rank + 1, size)).reverse());
      const s = 0.75 * size;
      const diamond = `M${to[0] - s},${to[1]}l${s},${-s}l${s},${s}l${-s},${s}z`;
      parts.push(svg("circle", { class: "asked", cx: from[0], cy: from[1], r: 0.95 * size }));
      parts.push(svg("path", { class: "predicted", d: diamond }));
    }
    if (state.source >= 0 && !question?.hits.includes(state.source)) {
      const [x, y] = place(state.source);
      parts.push(svg("circle", { class: "pointer", cx: x, cy: y, r: 0.7 * size }));
    }
    drawn.replaceChildren(...parts);
  };

  /* One source */
  const point = (source) => {
    if (source === state.source) return;
    state.source = source;
    label.hidden = source < 0;
    if (source >= 0) {
      const topic = sources.topic[source];
      const rank = questions[state.question]?.hits.indexOf(source) ?? -1;
      label.replaceChildren(
        html("b", "", sources.label[source] || "(no text)"),
        html("span", "", ` ${data.names[topic]}${rank < 0 ? "" : `, hit ${rank + 1}`}`),
      );
      // Never over the dot it speaks of: on the other side of the map.
      label.classList.toggle("far", place(source)[0] < plot.viewBox.baseVal.width / 2);
    }
    draw();
  };
  const nearest = (x, y, reach, fits) => {
    let best = -1;
    let least = reach * reach;
    for (let source = 0; source < sources.x.length; source += 1) {
      const across = sources.x[source] / data.grain - x;
      const down = sources.y[source] / data.grain - y;
      const distance = across * across + down * down;
      if (distance < least && (!fits || fits(across, down))) {
        best = source;
        least = distance;
      }
    }
    return best;
  };
  const under = (event) => {
    const box = plot.getBoundingClientRect();
    const mark = event.target.closest?.("[data-source]");
    if (mark) return Number(mark.dataset.source);
    return nearest((event.clientX - box.left) * unit(), (event.clientY - box.top) * unit(), 14 * unit());
  };
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const walk = (event) => {
    if (event.key === "Escape") {
      point(-1);
      return;
    }
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    if (state.source < 0) {
      point(questions[state.question]?.hits[0] ?? 0);
      return;
    }
    const [x, y] = place(state.source);
    const ahead = (across, down) => {
      const along = across * way[0] + down * way[1];
      return along > 0 && Math.abs(across * way[1]) + Math.abs(down * way[0]) <= along;
    };
    const next = nearest(x, y, Infinity, ahead);
    if (next >= 0) point(next);
  };

  /* The chosen question */
  const routes = (question) => {
    const list = html("ol", "routes");
    for (const [topic, probability] of question.routes) {
      const item = html("li");
      const track = html("span", "track");
      const fill = html("span", "fill");
      fill.style.width = `${100 * probability}%`;
      if (data.colours[topic]) fill.style.backgroundColor = data.colours[topic];
      track.append(fill);
      const name = html("span", "name", `${data.names[topic]} `);
      if (topic === question.right) name.append(html("span", "tag", "✓ right topic"));
      item.append(name, html("span", "number", `${(100 * probability).toFixed(probability < 0.0995 ? 1 : 0)} %`), track);
      list.append(item);
    }
    const listed = question.routes.some(([topic]) => topic === question.right);
    const block = html("div");
    block.append(html("h4", "", "Routed to"), list);
    if (question.right < 0) block.append(html("p", "aside-note", "The topic of its answer is not known."));
    else if (!listed) block.append(html("p", "aside-note", `Right topic, not among these: ${data.names[question.right]}`));
    return block;
  };
  const ranking = (question) => {
    const list = html("ol", "ranking");
    question.hits.forEach((source, rank) => {
      const item = html("li");
      const button = html("button", "", sources.label[source] || "(no text)");
      button.type = "button";
      button.dataset.source = source;
      button.addEventListener("focus", () => point(source));
      button.addEventListener("pointerenter", () => point(source));
      button.addEventListener("click", () => point(source));
      const number = html("span", "rank", rank + 1);
      number.setAttribute("aria-hidden", "true");
      item.append(number, button, html("small", "", data.names[sources.topic[source]]));
      list.append(item);
    });
    const block = html("div");
    block.append(html("h4", "", "Hits"), list);
    if (!question.hits.length) block.append(html("p", "aside-note", "No hits."));
    return block;
  };
  const buttons = picker ? [...picker.querySelectorAll("[data-question]")] : [];
  const choose = (number) => {
    state.question = number === state.question ? -1 : number;
    state.source = -1;
    label.hidden = true;
    for (const button of buttons) button.setAttribute("aria-pressed", Number(button.dataset.question) === state.question);
    const question = questions[state.question];
    explorer.classList.toggle("asking", Boolean(question));
    const met = new Set(question?.hits.map((source) => String(sources.topic[source])));
    for (const element of plot.querySelectorAll("[data-topic]")) {
      element.classList.toggle("met", met.has(element.dataset.topic));
    }
    chosen.hidden = !question;
    if (question) {
      const sides = html("div", "findings");
      sides.append(routes(question), ranking(question));
      const key = html("p", "key");
      key.append(html("i", "asked"), " question ", html("i", "predicted"), " its prediction ", html("i", "found", "1"), " its hits");
      chosen.replaceChildren(html("h3", "", question.text), key, sides);
    }
    draw();
  };

  /* Search and topics */
  const search = byId("map-search");
  const topicChoice = byId("map-topic");
  const count = byId("map-count");
  const listed = buttons.map((button) => {
    const { routes: [[first]], right } = questions[button.dataset.question];
    return { item: button.parentElement, words: button.textContent.toLowerCase(), topics: [String(first), String(right)] };
  });
  const filter = () => {
    if (!picker) return;
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { item, words, topics } of listed) {
      const fits = (!state.topic || topics.includes(state.topic)) && wanted.every((word) => words.includes(word));
      item.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.value = `${shown} of ${listed.length} questions`;
  };
  const single = (topic) => {
    state.topic = topic;
    for (const root of [explorer, byId("map-topics")]) root.classList.toggle("singled", topic !== "");
    for (const element of document.querySelectorAll("#map-stage [data-topic], #map-topics [data-topic]")) {
      element.classList.toggle("single", element.dataset.topic === topic);
      element.querySelector("button")?.setAttribute("aria-pressed", element.dataset.topic === topic);
    }
    if (topicChoice) topicChoice.value = topic;
    filter();
  };

  plot.addEventListener("pointermove", (event) => point(under(event)));
  stage.addEventListener("pointerleave", () => point(-1));
  stage.addEventListener("keydown", walk);
  stage.addEventListener("blur", () => point(-1));
  stage.addEventListener("click", (event) => {
    const topic = event.target.closest("[data-topic]")?.dataset.topic ?? "";
    single(topic === state.topic ? "" : topic);
  });
  byId("map-topics").addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    const { topic } = event.target.closest("[data-topic]").dataset;
    single(topic === state.topic ? "" : topic);
  });
  new ResizeObserver(draw).observe(plot);
  if (!picker) return;
  picker.hidden = false;
  picker.addEventListener("submit", (event) => event.preventDefault());
  picker.addEventListener("click", (event) => {
    const button = event.target.closest("[data-question]");
    if (button) choose(Number(button.dataset.question));
  });
  byId("map-questions").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const open = buttons.filter((button) => !button.parentElement.hidden);
    open[open.indexOf(document.activeElement) + step]?.focus();
  });
  topicChoice.addEventListener("change", () => single(topicChoice.value));
  // One search for both lists of questions: what is typed here filters the examples, too.
  const examples = byId("filter-text");
  search.addEventListener("input", () => {
    filter();
    if (!examples) return;
    examples.value = search.value;
    examples.dispatchEvent(new Event("input"));
  });
  examples?.addEventListener("input", () => {
    if (examples.value === search.value) return;
    search.value = examples.value;
    filter();
  });
  single(topicChoice.value);
  if (questions.length) choose(0);
})();
