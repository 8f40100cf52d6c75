// The page: one stream of documents at a time, each drawn whole. Texts become text nodes and
// attributes, never markup, so that no name can be anything else.

const main = document.getElementById("main");
const stateLine = document.getElementById("state");
const pauseButton = document.getElementById("pause");

// --- elements ---

const SVG = "http://www.w3.org/2000/svg";
const EVENTS = ["onclick", "onchange", "onsubmit", "oninput"];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (EVENTS.includes(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Make an element like another one, and keep what it has in common with it: focus, what is open, what
// is typed and ticked.
function become(old, wanted) {
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === "open" && old.tagName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of EVENTS) if (old[name] !== wanted[name]) old[name] = wanted[name];
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const child of [...wanted.childNodes]) {
    const key = child.dataset?.key;
    let same = key ? keyed.get(key) : at;
    if (!key && at?.dataset?.key) same = null;
    if (same && same.nodeName === child.nodeName) {
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      if (child.nodeType === Node.TEXT_NODE) {
        if (same.data !== child.data) same.data = child.data;
      } else become(same, child);
    } else old.insertBefore(child, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// --- texts ---

const SHOWN = 60;

// What has no picture, or turns the direction of what follows, is shown as its code.
function shown(text, most = Infinity) {
  let plain = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
  if (plain.length > most) plain = `${plain.slice(0, most - 1)}…`;
  return plain;
}
// A name by itself: its direction is its own.
const name = (text, most = SHOWN) => h("bdi", { title: shown(text).length > most ? shown(text) : null }, shown(text, most));

const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: 1 }));
function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return "0 ms";
  if (value < 0.0995) return `${(value * 1000).toPrecision(2)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  for (const [limit, unit, letter] of [[90, 1, "s"], [5400, 60, "min"], [129600, 3600, "h"]]) {
    if (value < limit) return `${value < 10 && value % 1 ? value.toFixed(1) : Math.round(value / unit)} ${letter}`;
  }
  return `${Math.round(value / 86400)} d`;
}
let ahead = 0; // By how many seconds the server's clock is ahead of ours.
const now = () => Date.now() / 1000 + ahead;
const ago = (at) => `${seconds(Math.max(0, Math.round(now() - at)))} ago`.replace(/^(0 ms|0\.0 s) ago$/, "now");
function exact(at) {
  const date = new Date(at * 1000);
  return Number.isNaN(date.getTime()) ? String(at) : date.toISOString().replace("T", " ").replace(/\.000Z$/, "Z");
}
function time(at) {
  if (at === null || at === undefined) return h("span", { class: "dim" }, "never");
  return h("time", { "data-at": at, title: exact(at) }, ago(at));
}
setInterval(() => {
  if (paused) return;
  for (const each of document.querySelectorAll("time[data-at]")) {
    const text = ago(Number(each.dataset.at));
    if (each.textContent !== text) each.textContent = text;
  }
}, 1000);

function tone(status) {
  if (/^(RUNNING|COMPLETED|Running|Succeeded)$/.test(status)) return "good";
  if (/^FAILED|Failed/.test(status)) return "bad";
  if (/INITIALIZING|SCHEDULING|PROCESSING|SUBMITTING|WAITING|Pending/.test(status)) return "wait";
  return "other";
}

// --- parts ---

const link = (route, ...content) => h("a", { href: `#${route}` }, content);
const path = (...parts) => `/${parts.map(encodeURIComponent).join("/")}`;
const tag = (text, kind) => h("span", { class: `tag ${kind}` }, text);
const fact = (title, ...values) => h("div", null, h("dt", null, title), values.map((each) => h("dd", null, each)));
const list = (texts) => (texts.length ? h("ul", { class: "list inline" }, texts.map((each) => h("li", null, name(each, 120)))) : "–");

function counts(pairs) {
  const total = pairs.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return h("span", { class: "dim" }, "none");
  let x = 0;
  const parts = pairs.map(([status, count]) => {
    const width = (count / total) * 100;
    x += width;
    return s("rect", { class: tone(status), x: x - width, width, height: 8 });
  });
  return [
    h("ul", { class: "counts" }, pairs.slice(0, 6).map(([status, count]) => h("li", { class: tone(status) }, `${number(count)} `, name(status, 30)))),
    pairs.length > 6 && h("span", { class: "dim" }, `and ${pairs.length - 6} more statuses`),
    s("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, parts),
  ];
}

function curve(values) {
  const known = values.filter((each) => each !== null);
  if (known.length < 2) return null;
  const top = Math.max(...known, 1);
  const points = values.map((value, at) => (value === null ? null : `${(at / (values.length - 1)) * 100} ${25 - (value / top) * 24}`)).filter(Boolean);
  return s("svg", { class: "curve", viewBox: "0 0 100 26", preserveAspectRatio: "none", "aria-hidden": "true" }, s("path", { d: `M${points.join("L")}` }));
}

// One element, so that a narrow screen has the title of a column beside it; nothing stays nothing.
const whole = (content) => (content ? h("div", null, content) : null);

// A table whose rows stand below each other where it is narrow; the roles say what it still is.
function table(caption, columns, rows) {
  const cells = (row) => columns.map(({ title, kind, show }, at) => at
    ? h("td", { role: "cell", class: kind, "data-label": title }, whole(show(row)))
    : h("th", { role: "rowheader", scope: "row", class: kind }, show(row)));
  return h("table", { role: "table" },
    h("caption", null, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(({ title, kind }) => h("th", { role: "columnheader", scope: "col", class: kind }, title)))),
    h("tbody", { role: "rowgroup" }, rows.map(({ key, row }) => h("tr", { role: "row", "data-key": key }, cells(row)))));
}

function pages(route, after, at) {
  const first = at && link(route, "First page");
  const next = after && link(`${route}?after=${encodeURIComponent(JSON.stringify(after))}`, "Next page");
  return (first || next) && h("nav", { class: "tools", "aria-label": "Pages" }, first, next);
}

const taskColumns = [
  { title: "Task", show: (t) => [name(t.task), t.retry ? ` retry ${t.retry}` : ""] },
  { title: "Workflow", show: (t) => link(path("workflow", t.backend, t.workflow), name(t.workflow)) },
  ...statusColumns(),
  { title: "Node", show: (t) => t.node && link(path("node", t.backend, t.node), name(t.node)) },
];
function statusColumns() {
  return [
    { title: "Status", show: (t) => h("span", null, h("span", { class: tone(t.status) }, name(t.status, 40)), t.code === null ? "" : ` exit code ${t.code}`, t.concluded && tag("concluded", "wait"), t.gone && tag("pod gone", "other")) },
    { title: "Since", kind: "code", show: (t) => time(t.since) },
  ];
}
const taskRows = (tasks) => tasks.map((row) => ({ key: JSON.stringify([row.backend, row.workflow, row.task, row.retry]), row }));

// --- views: each makes the title and the content of a document ---

const views = {
  fleet(data, { page = 0, find = "" }) {
    const { flow, nodes } = data;
    const here = (at) => `/?${new URLSearchParams({ ...(at && { page: at }), ...(find && { find }) })}`;
    const search = (event) => later(() => go(`/?${new URLSearchParams({ find: event.target.value })}`));
    const last = Math.max(0, Math.ceil(data.found / data.size) - 1);
    return ["Fleet", [
      h("dl", { class: "facts" },
        fact("Backends", number(data.known), h("span", { class: data.silent + data.blind ? "bad" : "" }, [data.silent && `${number(data.silent)} silent`, data.blind && `${number(data.blind)} blind`].filter(Boolean).join(", ") || (data.known ? "all heard of" : ""))),
        fact("Tasks in clusters", data.counted ? number(data.tasks.reduce((sum, [, n]) => sum + n, 0)) : "counting"),
        fact("Nodes available", number(nodes[0]), `of ${number(nodes[1])}`),
        fact("Reports per second", number(flow.rate), curve(flow.rates)),
        fact("Change to row, p50", seconds(flow.p50), flow.p99 === null ? "told by no worker" : `p99 ${seconds(flow.p99)}`),
        fact("In the queue", number(flow.depth), flow.depth ? `oldest ${seconds(flow.oldest)}` : "all handled", curve(flow.depths)),
        fact("Dead letters", link("/letters", h("span", { class: flow.dead ? "bad" : "" }, number(flow.dead)))),
        fact("Workers", number(flow.consumers), flow.consumers === 0 && h("span", { class: "bad" }, "nobody takes reports")),
      ),
      h("h2", null, "Tasks by status"), counts(data.tasks),
      h("h2", null, "Backends"),
      h("div", { class: "tools" }, h("form", { role: "search", onsubmit: (event) => event.preventDefault() },
        h("label", { for: "find" }, "Find"),
        h("input", { id: "find", type: "search", value: find, maxlength: 1024, autocomplete: "off", spellcheck: "false", oninput: search, onchange: search }))),
      data.backends.length ? table(
        `${number(data.found)} ${find ? "found" : "in all"}${last ? `, page ${page * 1 + 1} of ${last + 1}` : ""}; silent and blind ones first`,
        [
          { title: "Backend", show: (b) => [link(path("backend", b.name), name(b.name)), b.state !== "ok" && tag(b.state, "bad")] },
          { title: "Heartbeat", kind: "code", show: (b) => time(b.heard) },
          { title: "Pods known until", kind: "code", show: (b) => time(b.current) },
          { title: "Tasks", kind: "counted", show: (b) => counts(b.tasks) },
          { title: "Nodes", kind: "number", show: (b) => `${number(b.nodes[0])} of ${number(b.nodes[1])}` },
          { title: "Reports/s", kind: "number", show: (b) => number(b.rate) },
          { title: "Version", show: (b) => b.version && name(b.version, 20) },
        ],
        data.backends.map((row) => ({ key: row.name, row })),
      ) : h("p", null, find ? "No backend has this in its name." : "No backend has reported yet."),
      last > 0 && h("nav", { class: "tools", "aria-label": "Pages" },
        page > 0 && link(here(page * 1 - 1), "Previous page"),
        page < last && link(here(page * 1 + 1), "Next page")),
    ]];
  },

  tasks: (data, route) => backend(data, route, "tasks", data.tasks.length
    ? table("Tasks whose pods are in the cluster", taskColumns, taskRows(data.tasks))
    : h("p", null, data.after ? "None on this page." : "No pods of tasks.")),

  nodes: (data, route) => backend(data, route, "nodes", data.nodes.length
    ? table("Nodes in the cluster", [
        { title: "Node", show: (n) => link(path("node", data.backend.name, n.node), name(n.node)) },
        { title: "Takes tasks", show: (n) => h("span", { class: n.available ? "good" : "bad" }, n.available ? "available" : "not available") },
        { title: "Conditions", show: (n) => list(n.conditions) },
        { title: "Changed", kind: "code", show: (n) => time(n.updated) },
      ], data.nodes.map((row) => ({ key: row.node, row })))
    : h("p", null, data.after ? "None on this page." : "No nodes.")),

  workflow(data, { workflow, after }) {
    const title = ["Workflow ", name(workflow, 400)];
    if (!data.backends.length) return [title, h("p", null, "The store knows no task of it.")];
    if (!data.backend) return [title, h("p", null, "That backend has no task of it.")];
    return [title, [
      h("p", null, "Backend ", data.backends.map((each, at) => [at ? ", " : "", each === data.backend ? link(path("backend", each), name(each)) : link(path("workflow", each, workflow), name(each))])),
      table("Tasks, with what happened to each", [
        { title: "Task", show: (t) => [name(t.task), t.retry ? ` retry ${t.retry}` : ""] },
        ...statusColumns(),
        { title: "Node", show: (t) => t.node && link(path("node", t.backend, t.node), name(t.node)) },
        { title: "History", kind: "wide", show: (t) => h("div", null,
          t.message && h("p", null, shown(t.message, 600)),
          h("details", null, h("summary", null, `History, ${t.history.length} ${t.history.length === 1 ? "step" : "steps"}`),
            h("p", { class: "dim" }, "Pod ", name(t.pod, 300)),
            h("ol", { class: "steps" }, t.history.map(([at, what, text]) => h("li", null,
              h("span", { class: "dim" }, at === null ? "at an unknown time" : exact(at)), " ",
              h("strong", { class: tone(what) }, name(what, 60)), text ? [" ", h("bdi", null, shown(text, 600))] : ""))))) },
      ], taskRows(data.tasks)),
      pages(path("workflow", data.backend, workflow), data.after, after),
    ]];
  },

  node(data, { after }) {
    const title = ["Node ", name(data.node, 400)];
    const where = h("p", null, "Backend ", link(path("backend", data.backend), name(data.backend)));
    const tasks = [h("h2", null, "Tasks on it"), data.tasks.length
      ? table("Tasks whose pods are in the cluster", taskColumns.slice(0, -1), taskRows(data.tasks))
      : h("p", null, data.after ? "None on this page." : "None."), pages(path("node", data.backend, data.node), data.after, after)];
    if (!data.known) return [title, [where, h("p", null, "The store knows nothing of this node itself."), tasks]];
    return [title, [
      where,
      h("dl", { class: "facts small" },
        fact("Takes tasks", h("span", { class: data.available ? "good" : "bad" }, data.available ? "available" : "not available"), data.gone && "gone from the cluster"),
        fact("Host name", name(data.hostname)),
        fact("Changed", time(data.updated)),
        fact("Conditions", list(data.conditions))),
      data.taints.length > 0 && [h("h2", null, "Taints"), list(data.taints)],
      h("h2", null, "Usage"),
      data.resources.length ? table("What there is, and what its pods ask for", [
        { title: "Resource", show: (r) => name(r[0]) },
        { title: "Allocatable", kind: "number", show: (r) => shown(r[1] || "–", 40) },
        { title: "Asked for", kind: "number", show: (r) => shown(r[2] || "–", 40) },
        { title: "By other pods than tasks", kind: "number", show: (r) => shown(r[3] || "–", 40) },
      ], data.resources.map((row) => ({ key: row[0], row }))) : h("p", null, "Not reported."),
      tasks,
      h("h2", null, "Labels"), data.labels.length ? list(data.labels) : h("p", null, "None."),
    ]];
  },

  letters(data, { after }) {
    const rows = data.letters.map((row) => ({ key: row.id, row }));
    const box = data.replay && { title: "Chosen", show: (l) => h("input", { type: "checkbox", "aria-label": `choose ${shown(l.id)}`, value: l.id, onchange: choose }) };
    return ["Dead letters", [
      h("p", null, "Reports that could not be handled, the oldest first. ", !data.dead ? "" : `There are ${number(data.dead)}.`),
      data.replay && rows.length > 0 && h("div", { class: "tools", role: "group", "aria-label": "Chosen dead letters" },
        h("button", { type: "button", onclick: () => choose(null, true) }, "Choose all on this page"),
        h("button", { type: "button", disabled: !chosen().length, onclick: () => change("replay", data.token) }, "Replay chosen"),
        h("button", { type: "button", disabled: !chosen().length, onclick: () => change("drop", data.token) }, "Drop chosen"),
        h("span", { role: "status", id: "done" }, done)),
      rows.length ? table(data.replay ? "Choose those to replay or to drop" : "Read-only: start with --allow-replay to replay or drop them", [
        { title: "Letter", kind: "code", show: (l) => name(l.id, 40) },
        ...(box ? [box] : []),
        { title: "Given up", kind: "code", show: (l) => time(l.buried) },
        { title: "Backend", show: (l) => link(path("backend", l.backend), name(l.backend)) },
        { title: "Report", show: (l) => (l.kind === null ? h("span", { class: "bad" }, "unreadable") : [name(l.kind, 40), " ", name(l.key)]) },
        { title: "Tries", kind: "number", show: (l) => number(l.attempts) },
        { title: "Reason", kind: "wide", show: (l) => h("div", null, h("bdi", null, shown(l.reason, 400)), h("details", null, h("summary", null, "Content"), h("pre", null, shown(l.payload)))) },
      ], rows) : h("p", null, after ? "No more." : "None. Everything that was reported could be handled."),
      pages("/letters", data.after, after),
    ]];
  },
};

function backend(data, { after }, which, content) {
  const { backend: b } = data;
  const tab = (each, title) => h("a", { href: `#${path("backend", b.name, ...(each === "nodes" ? ["nodes"] : []))}`, "aria-current": each === which ? "page" : null }, title);
  return [["Backend ", name(b.name, 400)], [
    b.unknown ? h("p", null, "The store knows no backend of this name.") : h("dl", { class: "facts small" },
      fact("Heartbeat", time(b.heard), b.state !== "ok" && h("span", { class: "bad" }, b.state)),
      fact("Pods known until", time(b.current)),
      fact("Nodes available", `${number(b.nodes[0])} of ${number(b.nodes[1])}`),
      fact("Reports per second", number(b.rate)),
      fact("Listener", b.version ? name(b.version) : "–"),
      fact("Namespace", b.namespace ? name(b.namespace) : "–"),
      fact("Cluster", b.cluster ? name(b.cluster) : "–"),
      fact("First heard of", time(b.first))),
    !b.unknown && [h("h2", null, "Tasks by status"), counts(b.tasks)],
    !b.unknown && b.watches.length > 0 && [h("h2", null, "API server heard"),
      h("ul", { class: "list inline" }, b.watches.map(([listener, age]) => h("li", null, name(listener), ` ${seconds(Math.round(age))} before the heartbeat`)))],
    !b.unknown && [h("h2", null, "Reported by"), b.reporters.length
      ? h("ul", { class: "list" }, b.reporters.map((r) => h("li", null, name(r.source), r.from && [" from ", name(r.from)], ", connected ", time(r.since))))
      : h("p", null, "Nobody is connected.")],
    h("nav", { class: "tools", "aria-label": "Of this backend" }, tab("tasks", "Tasks"), tab("nodes", "Nodes")),
    content,
    pages(path("backend", b.name, ...(which === "nodes" ? ["nodes"] : [])), data.after, after),
  ]];
}

// --- replay and drop ---

let done = "";
const chosen = () => [...main.querySelectorAll("input[type=checkbox]:checked")].map((each) => each.value);
function choose(_, all) {
  if (all) for (const each of main.querySelectorAll("input[type=checkbox]")) each.checked = true;
  draw();
}
async function change(what, token) {
  const letters = chosen();
  const many = letters.length === 1 ? "1 dead letter" : `${letters.length} dead letters`;
  if (what === "drop" && !confirm(`Drop ${many} for ever?`)) return;
  try {
    const answer = await fetch(`/letters/${what}`, { method: "POST", headers: { "Content-Type": "application/json", "X-Token": token }, body: JSON.stringify({ letters }) });
    const text = await answer.text();
    done = answer.ok ? `${what === "drop" ? "dropped" : "replayed"} ${JSON.parse(text).done}` : text;
  } catch (error) {
    done = String(error);
  }
  for (const each of main.querySelectorAll("input[type=checkbox]")) each.checked = false;
  draw();
}

// --- routes ---

let route = {};
let latest = null;
let source = null;
let paused = false;
let waiting = 0;
let again = 0;

const go = (hash) => { location.hash = hash; };
function later(act) {
  clearTimeout(waiting);
  waiting = setTimeout(act, 250);
}

function routed() {
  const [steps, query = ""] = location.hash.replace(/^#?\/?/, "").split("?");
  let parts;
  try {
    parts = steps.split("/").map(decodeURIComponent);
  } catch {
    parts = ["unknown"];
  }
  const asked = Object.fromEntries(new URLSearchParams(query));
  const of = { after: asked.after };
  const [what, first, second] = parts;
  if (what === "backend" && first && second === "nodes") return { view: "nodes", backend: first, ...of };
  if (what === "backend" && first) return { view: "tasks", backend: first, ...of };
  if (what === "workflow" && first && second) return { view: "workflow", backend: first, workflow: second, ...of };
  if (what === "workflow" && first) return { view: "workflow", workflow: first, ...of };
  if (what === "node" && first && second) return { view: "node", backend: first, node: second, ...of };
  if (what === "letters") return { view: "letters", after: asked.after && JSON.parse(asked.after) };
  return { view: "fleet", page: asked.page, find: asked.find };
}

function draw() {
  if (!latest) return;
  const failed = latest.error;
  let title = document.title.split(" · ")[0];
  let content = null;
  if (!failed || latest.flow) [title, content] = views[route.view](latest, route);
  const heading = h("h1", null, title);
  document.title = `${heading.textContent} · OSMO pipeline`;
  become(main, h("main", { id: "main", tabindex: -1 }, heading, failed && h("p", { class: "error", role: "alert" }, shown(failed, 1000)), content));
  const box = document.getElementById("find");
  if (box && document.activeElement !== box) box.value = route.find ?? "";
}

function say(text) {
  if (stateLine.textContent !== text) stateLine.textContent = text;
}

function open() {
  source?.close();
  clearTimeout(again);
  if (paused || document.hidden) return;
  const asked = new URLSearchParams(Object.entries(route).filter(([, value]) => value !== undefined && value !== null));
  const url = `/live?${asked}`;
  source = new EventSource(url);
  source.onmessage = ({ data }) => {
    latest = JSON.parse(data);
    say("live");
    draw();
  };
  source.onerror = async () => {
    say("not connected, trying again");
    if (source.readyState !== EventSource.CLOSED) return;
    again = setTimeout(open, 5000);
    const refused = new AbortController();
    try {
      const answer = await fetch(url, { signal: refused.signal });
      if (!answer.ok) say(await answer.text());
    } catch {
      // It is said already.
    } finally {
      refused.abort();
    }
  };
}

function turn() {
  if (location.hash === "#main") return;
  const before = JSON.stringify({ ...route, find: "", page: 0 });
  try {
    route = routed();
  } catch {
    route = { view: "fleet" };
  }
  latest = null;
  done = "";
  const moved = JSON.stringify({ ...route, find: "", page: 0 }) !== before;
  if (moved) become(main, h("main", { id: "main", tabindex: -1 }, h("p", { class: "dim" }, "Loading")));
  for (const [id, view] of [["to-fleet", "fleet"], ["to-letters", "letters"]]) {
    const here = document.getElementById(id);
    if (route.view === view) here.setAttribute("aria-current", "page");
    else here.removeAttribute("aria-current");
  }
  if (moved && before !== JSON.stringify({ find: "", page: 0 })) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  open();
}

document.getElementById("skip").onclick = (event) => {
  event.preventDefault();
  main.focus();
};
document.getElementById("search").onsubmit = (event) => {
  event.preventDefault();
  const wanted = document.getElementById("workflow").value.trim();
  if (wanted) go(path("workflow", wanted));
};
pauseButton.onclick = () => {
  paused = !paused;
  pauseButton.setAttribute("aria-pressed", String(paused));
  say(paused ? "paused" : "connecting");
  open();
};
addEventListener("hashchange", turn);
document.addEventListener("visibilitychange", open);

// Ages are by the server's clock: that of whoever looks may be wrong.
fetch("/icon.svg", { method: "HEAD" }).then((answer) => {
  const at = Date.parse(answer.headers.get("Date") ?? "");
  if (!Number.isNaN(at)) ahead = (at - Date.now()) / 1000;
}).catch(() => {});
turn();
