"use strict";
// Everything that comes from the cluster is put on the page as text: the content security policy forbids anything else.

const byId = (id) => document.getElementById(id);
const state = {}; // the view by key, as the server sends it
const open = new Map(); // nodes of the pools that are open: name -> {card, count, words, revision}
let token = "";

// --- drawing ---

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Parts of a whole, to scale; what they say in colours stands beside them in words.
function drawing(pieces, rest = 0, mark = null) {
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  for (const [kind, width, slice = null] of [...pieces, ["rest", rest]]) {
    if (width <= 0) continue;
    const piece = make("span", { class: kind, "data-slice": slice });
    piece.style.flexGrow = width;
    bar.append(piece);
  }
  if (mark !== null) {
    const line = make("span", { class: "mark" });
    line.style.left = `${100 * mark}%`;
    bar.append(line);
  }
  return bar;
}

// Roles are said, because a row that a phone shows as lines is no row to a screen reader else.
function table(caption, head, rows) {
  const titles = head.map((word, column) => make("th", { scope: "col", role: "columnheader", class: rows[0][column].classList.contains("number") ? "number" : null }, word));
  for (const row of rows) row.forEach((each, column) => (each.dataset.head = head[column]));
  const group = (tag, ...lines) => make(tag, { role: "rowgroup" }, ...lines.map((line) => make("tr", { role: "row" }, ...line)));
  const found = make("table", { role: "table", "aria-label": caption }, group("thead", titles), group("tbody", ...rows));
  return make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, found);
}

const cell = (content, kind = null) => make("td", { role: "cell", class: kind }, content);
const rowHead = (text) => make("th", { role: "rowheader", scope: "row" }, text);
const counted = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// --- pools and nodes ---

function amounts({ drawn, usable, used }) {
  const busy = Math.min(used ?? 0, drawn);
  const free = Math.max(0, usable - busy);
  return { busy, free, held: drawn - busy - free };
}

function amountWords(resource) {
  const { busy, free, held } = amounts(resource);
  const numbers = resource.used === null ? [[free + busy, "offered, use unknown"]] : [[busy, "used"], [free, "free"]];
  const words = [...numbers, [held, "held back"]].filter(([number]) => number).map((each) => each.join(" "));
  return `${resource.name}: ${words.join(", ") || "nothing"}`;
}

function drawPool(pool) {
  let card = byId(`pool/${pool.name}`);
  if (!card) {
    const button = make("button", { type: "button", "aria-expanded": "false" }, "Show nodes");
    button.addEventListener("click", () => toggle(pool.name));
    button.setAttribute("aria-label", `Show nodes of ${pool.name}`);
    card = make("li", { class: "card", id: `pool/${pool.name}` }, make("div", { class: "head" }, make("h3", {}, pool.name), button), make("div", { class: "summary" }));
    const after = [...byId("pool-list").children].find((each) => each.id > card.id);
    byId("pool-list").insertBefore(card, after ?? null);
  }
  const lines = pool.resources.flatMap((resource) => {
    const { busy, free, held } = amounts(resource);
    const memory = resource.memory ? `, ${(resource.memory / 1024).toFixed(1)} GiB ${resource.sharedBy > 1 ? `shared by ${resource.sharedBy}` : "each"}` : "";
    return [
      make("p", { class: "resource" }, amountWords(resource) + memory),
      drawing([["used", busy], [resource.used === null ? "offered" : "free", free], ["held", held]]),
    ];
  });
  const doubts = pool.unsettled.map((each) => make("li", {}, `${each.node}: ${each.reason}`));
  const more = pool.unsettledNodes - pool.unsettled.length;
  if (more > 0) doubts.push(make("li", {}, `and ${counted(more, "node")} more`));
  const details = doubts.length
    ? [make("details", {}, make("summary", {}, `${counted(pool.unsettledNodes, "node")} not believed as ${pool.unsettledNodes === 1 ? "it stands" : "they stand"}`), make("ul", {}, ...doubts))]
    : [];
  const wasOpen = card.querySelector("details")?.open ?? false;
  card.querySelector(".summary").replaceChildren(
    make("p", { class: "soft" }, `${pool.model}, ${pool.strategy}, ${counted(pool.nodes, "node")} counted${pool.sources.length ? ` by ${pool.sources.join(", ")}` : ""}`), ...lines, ...details,
  );
  if (wasOpen && details.length) card.querySelector("details").open = true;
  const shown = open.get(pool.name);
  if (shown && shown.revision !== pool.revision) {
    shown.revision = pool.revision;
    load(pool.name, 0, shown.count);
  }
}

function toggle(name) {
  const card = byId(`pool/${name}`);
  const button = card.querySelector("button");
  const shown = open.has(name);
  button.setAttribute("aria-expanded", String(!shown));
  button.textContent = shown ? "Show nodes" : "Hide nodes";
  button.setAttribute("aria-label", `${button.textContent} of ${name}`);
  card.classList.toggle("open", !shown);
  if (shown) {
    open.delete(name);
    card.querySelector(".inside").remove();
    return;
  }
  const search = make("input", { type: "search", name: "words", "aria-label": `Find nodes of ${name}`, placeholder: "Part of a name or reason" });
  const list = make("ul", { class: "nodes", "aria-label": `Nodes of ${name}` });
  const more = make("button", { type: "button", hidden: "" }, "More nodes");
  card.append(make("div", { class: "inside" }, search, make("p", { class: "soft count", role: "status" }), list, more));
  open.set(name, { words: "", count: 0, revision: state[`pool/${name}`].revision });
  more.addEventListener("click", () => load(name, open.get(name).count));
  new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && !more.hidden && load(name, open.get(name).count)).observe(more);
  let pause = 0;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      open.get(name).words = search.value;
      load(name, 0);
    }, 200);
  });
  list.addEventListener("keydown", walk);
  load(name, 0);
}

async function load(name, first, atLeast = 1) {
  const shown = open.get(name);
  if (!shown || (shown.loading === first && first > 0)) return;
  shown.loading = first;
  const nodes = [];
  let total = 0;
  do {
    const query = new URLSearchParams({ pool: name, first: first + nodes.length, words: shown.words });
    const answer = await ask(`nodes?${query}`);
    if (!answer.ok) return;
    const found = await answer.json();
    total = found.total;
    nodes.push(...found.nodes);
    if (!found.nodes.length) break;
  } while (nodes.length < Math.min(atLeast, total - first));
  if (open.get(name) !== shown || shown.loading !== first) return;
  shown.loading = null;
  shown.count = first + nodes.length;
  const inside = byId(`pool/${name}`).querySelector(".inside");
  const list = inside.querySelector(".nodes");
  const focused = document.activeElement?.dataset?.board;
  const items = nodes.map(drawNode);
  if (first) list.append(...items);
  else list.replaceChildren(...items);
  const boards = [...list.querySelectorAll(".board")];
  const again = boards.find((each) => each.dataset.board === focused);
  if (again && !first) again.focus();
  if (!list.querySelector('.board[tabindex="0"]') && boards.length) (again ?? boards[0]).tabIndex = 0;
  inside.querySelector(".count").textContent = `${shown.count} of ${counted(total, "node")} shown`;
  inside.querySelector(":scope > button").hidden = shown.count >= total;
}

// What fits on a slice that is drawn: "1g" of nvidia.com/mig-1g.10gb.
const sliceName = (resource) => /\/mig-(\d+g)/.exec(resource)?.[1] ?? null;

// Where no pods were read, nobody knows that something is free.
const stateOf = (part) => (part.state === "free" && !state.cluster.podsKnown ? "offered" : part.state);
const stateWords = { held: "held back", offered: "offered, use unknown:" };

function drawNode(node) {
  const boards = node.boards.map((board, index) => {
    const width = board.parts.reduce((sum, part) => sum + part.width, 0);
    const tally = new Map();
    for (const part of board.parts) {
      const key = `${stateWords[stateOf(part)] ?? part.state} ${part.resource}`;
      tally.set(key, (tally.get(key) ?? 0) + 1);
    }
    const words = [`${node.name}, board ${index + 1} of ${node.boards.length}: ${[...tally].map(([key, count]) => `${count} ${key}`).join(", ")}`];
    if (node.reason) words.push(node.reason);
    const parts = board.parts.map((part) => [stateOf(part), part.width, part.width < 1 ? null : sliceName(part.resource)]);
    const button = make("button", { type: "button", class: "board", tabindex: "-1", "aria-label": words.join("; "), "data-board": `${node.name}/${index}` });
    button.append(drawing(parts, board.of - width));
    return button;
  });
  const lines = node.resources.map((each) => make("p", { class: "soft resource" }, amountWords(each)));
  const doubt = node.reason ? [make("p", { class: node.state === "uncounted" ? "bad" : "soft" }, `${node.state === "uncounted" ? "Not counted" : "Held"}: ${node.reason}`)] : [];
  return make("li", { class: "node" }, make("h4", {}, node.name), ...lines, ...doubt, make("div", { class: "boards" }, ...boards));
}

// Arrow keys go from board to board, so that thousands of them are one stop of the Tab key.
function walk(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.classList.contains("board")) return;
  event.preventDefault();
  const boards = [...event.currentTarget.querySelectorAll(".board")];
  const next = boards[boards.indexOf(event.target) + step];
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// --- plans ---

function drawPlans() {
  const plans = keyed("plan/");
  byId("plan-list").replaceChildren(...(plans.length ? plans.flatMap(drawPlan) : [make("p", {}, "There is no QuotaPlan.")]));
}

function drawPlan(plan) {
  const standing = plan.refused ? make("p", { class: "bad" }, "Refused: it writes nothing.") : make("p", { class: "soft" }, [plan.engine, plan.cohort && `cohort ${plan.cohort}`, `mode ${plan.mode}`].filter(Boolean).join(", "));
  const problems = plan.problems.length ? [make("ul", {}, ...plan.problems.map((each) => make("li", {}, each)))] : [];
  const rows = plan.queues.flatMap((queue) =>
    queue.numbers.map(({ flavor, resource, units, words }) => {
      const most = Math.max(units.wanted, units.standing ?? 0, units.used, units.offered ?? 0, 1);
      const { wanted, used } = units;
      const pieces = [["used", Math.min(used, wanted)], ["free", wanted - used], ["held", used - wanted]];
      const picture = drawing(pieces, most - Math.max(wanted, used), units.standing === null ? null : units.standing / most);
      return [rowHead(queue.name), cell(flavor || "any"), cell(resource), cell(words.wanted, "number"), cell(words.standing ?? "not there yet", "number"), cell(words.used, units.used > (units.standing ?? units.wanted) ? "number bad" : "number"), cell(words.offered ?? "", "number"), cell(picture, "draw")];
    }),
  );
  const head = ["Queue", "Flavor", "Resource", "Wanted", "Stands", "Used", "Nodes offer", "Used of wanted"];
  const numbers = rows.length ? table(`Queues of ${plan.name}`, head, rows) : make("p", {}, "Its queues have nothing.");
  const changes = plan.queues.filter((queue) => queue.changed).map((queue) => make("li", {}, `${queue.name}: ${queue.changed}`));
  const last = changes.length ? [make("h4", {}, "Last changes"), make("ul", { class: "soft" }, ...changes)] : [];
  return [make("h3", {}, `QuotaPlan ${plan.name}`), standing, ...problems, numbers, ...last];
}

// --- findings and changes ---

function sentences(found, none, row) {
  if (!found?.total) return [make("p", {}, none)];
  const more = found.total - found.first.length;
  return [make("ul", {}, ...found.first.map((each) => make("li", {}, ...row(each)))), ...(more > 0 ? [make("p", { class: "soft" }, `and ${more} more`)] : [])];
}

function drawPromises() {
  const over = (state.promises ?? []).filter((each) => each.excess);
  const rows = over.map((each) => [rowHead(each.resource), cell(each.queues.join(", "), "words"), cell(each.promised, "number"), cell(each.offered, "number"), cell(each.excess, "number bad")]);
  byId("promises").replaceChildren(rows.length ? table("Promised and not there", ["Resource", "Queues", "Promised", "Nodes offer", "Too much"], rows) : make("p", {}, "No queue promises what no node has."));
}

// What stands between backticks is something to type.
const prose = (text) => text.split("`").map((each, index) => (index % 2 ? make("code", {}, each) : each));

function drawDoctor() {
  const none = state.doctor ? "Nothing was found." : "Nobody looked: run slicewise doctor.";
  const found = sentences(state.doctor, none, (each) => {
    const subject = `${each.kind} ${[each.namespace, each.name].filter(Boolean).join("/")}`;
    const said = each.sentence.startsWith(subject) ? each.sentence : `${subject}: ${each.sentence}`;
    return [make("strong", { class: each.severity === "error" ? "bad" : null }, `${each.severity} ${each.code}`), ` ${said}.`, make("p", { class: "soft" }, ...prose(each.fix))];
  });
  const unseen = state.cluster.unseen;
  if (unseen.length) found.push(make("h4", {}, "Not looked at"), make("ul", { class: "soft" }, ...unseen.map((each) => make("li", {}, each))));
  byId("doctor").replaceChildren(...found);
}

function drawChanges() {
  const rows = (state.changes ?? []).map((each) => [cell(make("time", { datetime: each.at }, each.at.replace("T", " ").replace(/(\.\d+)?Z$/, ""))), rowHead(each.node), cell(each.words, "words")]);
  byId("change-list").replaceChildren(rows.length ? table("Last changes of nodes", ["When (UTC)", "Node", "What"], rows) : make("p", {}, "No node says when it changed: the controller has not written on them yet."));
}

// --- at a glance ---

function drawCounts() {
  const over = (state.promises ?? []).some((each) => each.excess);
  const wrong = over || state.doctor?.first.some((each) => each.severity === "error") || keyed("plan/").some((each) => each.refused);
  const numbers = { pools: keyed("pool/").length, plans: keyed("plan/").length, findings: (state.doctor ?? state.drift).total, changes: state.changes.length };
  for (const [part, number] of Object.entries(numbers)) document.querySelector(`nav a[href="#${part}"] b`).textContent = number;
  document.querySelector('nav a[href="#findings"] b').classList.toggle("bad", wrong);
}

// --- what the server sends ---

const keyed = (prefix) => Object.keys(state).filter((key) => key.startsWith(prefix)).sort().map((key) => state[key]);

function take(news) {
  for (const [key, value] of Object.entries(news)) {
    if (value === null) delete state[key];
    else state[key] = value;
    if (key.startsWith("pool/")) {
      if (value === null) {
        byId(key)?.remove();
        open.delete(key.slice(5));
      } else drawPool(value);
    }
  }
  const keys = Object.keys(news);
  if (!keyed("pool/").length) byId("pool-list").replaceChildren(make("li", {}, "No node offers an NVIDIA GPU."));
  else for (const each of byId("pool-list").querySelectorAll(":scope > :not(.card)")) each.remove();
  if (keys.some((key) => key.startsWith("plan/")) || !byId("plan-list").children.length) drawPlans();
  if ("promises" in news) drawPromises();
  if ("drift" in news) byId("drift").replaceChildren(...sentences(state.drift, "Nothing slipped through.", (each) => [make("strong", {}, each.code), " ", ...prose(each.sentence)]));
  if ("doctor" in news || "cluster" in news) drawDoctor();
  if ("changes" in news) drawChanges();
  if ("cluster" in news) {
    const { source, nodes, unsettled, podsKnown } = state.cluster;
    byId("source").textContent = `${source}: ${counted(nodes, "GPU node")}${unsettled ? `, ${unsettled} not believed as ${unsettled === 1 ? "it stands" : "they stand"}` : ""}`;
    byId("pods").hidden = byId("unknown").hidden = podsKnown;
  }
  drawCounts();
  say(state.problem ? `The last reading failed: ${state.problem}` : state.cluster.live ? "Live: changes appear by themselves." : "A snapshot: it shows one moment and does not change.");
  document.documentElement.dataset.painted = "true";
  performance.mark("painted");
}

function say(words) {
  if (byId("state").textContent !== words) byId("state").textContent = words;
}

function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  return fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
}

async function follow() {
  let wait = 1;
  for (;;) {
    try {
      const answer = await ask("events");
      if (answer.status === 401 || answer.status === 403) return login(await answer.text());
      if (!answer.ok) throw new Error(await answer.text());
      byId("login").hidden = true;
      await listen(answer.body.pipeThrough(new TextDecoderStream()).getReader(), () => (wait = 1));
      say("The server went away. Trying again …");
    } catch (error) {
      say(`Not live: ${error.message.trim()}. Trying again …`);
    }
    await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    wait = Math.min(30, wait * 2);
  }
}

async function listen(reader, heard) {
  let text = "";
  let whole = true;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events.filter((each) => each.startsWith("data: "))) {
      const news = JSON.parse(event.slice(6));
      if (whole) for (const key of Object.keys(state)) if (!(key in news)) news[key] = null;
      whole = false;
      heard();
      take(news);
    }
  }
}

function login(problem) {
  byId("login").hidden = false;
  byId("login-problem").textContent = token ? problem : "";
  say("Signed out.");
  byId("token").focus();
}

// --- what people do ---

byId("login").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  follow();
});

byId("explain").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const shown = byId("explanation");
  shown.hidden = false;
  shown.textContent = "…";
  try {
    const query = new URLSearchParams({ namespace: byId("namespace").value });
    const answer = await ask(`explain?${query}`, { method: "POST", body: byId("manifest").value, headers: { "Content-Type": "application/yaml" } });
    shown.textContent = await answer.text();
  } catch (error) {
    shown.textContent = `Nothing answered: ${error.message}`;
  }
});

function tip(event) {
  const board = event.target.closest?.(".board");
  const shown = byId("tip");
  shown.hidden = !board;
  if (!board) return;
  shown.textContent = board.getAttribute("aria-label");
  const place = board.getBoundingClientRect();
  shown.style.left = `${Math.max(8, Math.min(place.left, innerWidth - shown.offsetWidth - 8))}px`;
  shown.style.top = `${place.bottom + 8 + shown.offsetHeight > innerHeight ? Math.max(8, place.top - shown.offsetHeight - 8) : place.bottom + 8}px`;
}

document.addEventListener("mouseover", tip);
document.addEventListener("focusin", tip);
document.addEventListener("focusout", () => (byId("tip").hidden = true));
document.addEventListener("keydown", (event) => event.key === "Escape" && (byId("tip").hidden = true));
follow();
