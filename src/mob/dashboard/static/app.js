// The page: takes what the feed sends, and lets each part show it. Reconnects by itself when the connection is lost.

import { Actions, ask, toast } from "./actions.js";
import { strip } from "./charts.js";
import { Logs } from "./logs.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { exportTable, jobTable, mobsterTable, Roles, showPorts, timerTable } from "./tables.js";
import { $, bytes, clock, keep, make, say, span } from "./tools.js";

const KEYS = [
  ["1 – 9, 0", "go to a section"], ["/", "filter the logs"], ["p", "pause or resume the logs"], ["t", "light or dark"],
  ["u", "unlock actions"], ["← →", "on a chart: show the values at a time"], ["?", "this help"], ["Esc", "close"],
];
const store = new Store();
const actions = new Actions(() => connect());
const logs = new Logs();
const roles = new Roles(store, actions);
const mobsters = mobsterTable(store, actions);
const exports_ = exportTable();
const timers = timerTable(store);
const jobs = jobTable();
const stage = new Stage($("stage"), $("tip"), store, (mobster) => lightUp($("mobster-table").tBodies[0].known?.get(String(mobster.uid))));
const PAUSE = 40; // milliseconds
let later = 0;
let awaitsNews = false;
let isTableSeen = false;
let shownUids = "";
let source = null;
let stripWidth = 600;
let retry = 0;
let failures = 0; // in a row

// ------------------------------------------------------------------------------------------------- the feed

function connect() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource("/api/feed");
  source.addEventListener("whole", (event) => {
    const data = JSON.parse(event.data);
    store.whole(data);
    logs.whole(data.lines);
    status("live", "live");
    show(true);
    loadCrashes();
  });
  source.addEventListener("tick", (event) => {
    if (!store.head) return;
    const data = JSON.parse(event.data);
    store.tick(data);
    show(data.points.length > 0 || data.events.length > 0);
    if (data.events.some(([, kind]) => kind === "crash" || kind === "hang")) setTimeout(loadCrashes, 300);
  });
  source.addEventListener("lines", (event) => logs.add(JSON.parse(event.data)));
  source.addEventListener("done", (event) => {
    const { text, error } = JSON.parse(event.data);
    toast(text, error);
  });
  source.addEventListener("error", () => lost());
}

/** Reconnects by hand, because after a response that is not a stream the browser gives up for good. */
async function lost() {
  source.close();
  clearTimeout(retry);
  failures += 1;
  status("lost", "connection lost");
  if (failures > 1) banner("Connection lost, trying again."); // after one failure it may be a reload, whose next worker is ready already
  retry = setTimeout(connect, failures > 1 ? 1000 : 150);
  try {
    const response = await fetch("/metrics", { method: "HEAD" });
    if (response.status !== 401) return;
    clearTimeout(retry);
    status("lost", "locked");
    banner("This dashboard shows nothing without its token: use “Unlock actions”, or the URL that the app printed.");
  } catch {
    // It is not running, which the banner says.
  }
}

function status(kind, text) {
  $("status").className = `pill ${kind}`;
  say($("status"), text);
  if (kind !== "live") return;
  failures = 0;
  banner("");
}

function banner(text) {
  $("banner").hidden = !text;
  say($("banner"), text);
}

// ------------------------------------------------------------------------------------------------- showing

/** Shows what changed, in several steps, so that the picture does not stop. */
function show(hasNews) {
  stage.update();
  showHead();
  clearTimeout(later);
  awaitsNews ||= hasNews;
  later = setTimeout(() => {
    roles.update(awaitsNews);
    if (awaitsNews) showEvents();
    awaitsNews = false;
    later = setTimeout(showTables, PAUSE);
  }, PAUSE);
}

function showHead() {
  const { head } = store;
  document.title = `${head.app} – mob`;
  say($("app-name"), head.app);
  const load = [...store.mobsters.values()].reduce((all, each) => all + each.load, 0);
  const memory = [...store.mobsters.values()].reduce((all, each) => all + each.memory, head.memory);
  const machines = store.machines().length;
  say($("cut"), head.cut ? `The other machines cannot be reached: ${head.cut}` : "");
  $("cut").hidden = !head.cut;
  say($("facts"), [...(head.machines ? [`${machines} ${machines === 1 ? "machine" : "machines"}`] : []), `Kingpin ${head.pid}`, `up ${span(head.now - head.began)}`, `${store.mobsters.size} mobsters`, `CPU ${Math.round(load * 100)} %`, bytes(memory)].join("  ·  "));
  say($("mobster-count"), `${store.mobsters.size} in ${store.roles.size} roles`);
}

function showTables() {
  const ordered = store.inOrder();
  const uids = ordered.map((each) => each.uid).join();
  if (isTableSeen || uids !== shownUids) mobsters.show(ordered); // a long table costs more than everything else
  shownUids = uids;
  exports_.show([...store.exports.values()]);
  $("no-exports").hidden = store.exports.size > 0;
  $("export-table").hidden = !store.exports.size;
  showIfAny("timers", timers);
  showIfAny("jobs", jobs);
  showPorts(store);
  logs.roles([...store.roles.keys()]);
}

/** Shows a section only if the app has such things. */
function showIfAny(name, table) {
  const rows = [...store[name].values()];
  $(name).hidden = links.find((link) => link.hash === `#${name}`).hidden = !rows.length;
  if (rows.length) table.show(rows);
}

function showEvents() {
  $("strip").replaceChildren(strip(store.events, store.head.now, stripWidth, (event) => lightUp($("events").known?.get(keyOf(event)))));
  const latest = store.events.slice(-100).reverse();
  const by = new Map(latest.map((event) => [keyOf(event), event]));
  keep($("events"), [...by.keys()], (key) => {
    const { at, kind, text } = by.get(key);
    return make("li", { "data-kind": kind }, make("time", {}, clock(at)), make("span", { class: `kind k-${kind}` }, kind), make("p", {}, text));
  }, () => {});
}

const keyOf = (event) => `${event.at} ${event.kind} ${event.text}`;

function lightUp(element) {
  if (!element) return;
  element.scrollIntoView({ block: "center" });
  element.classList.add("lit");
  setTimeout(() => element.classList.remove("lit"), 2500);
}

async function loadCrashes() {
  try {
    const response = await fetch("/api/crashes");
    if (!response.ok) return;
    const crashes = await response.json();
    const by = new Map(crashes.map((crash) => [`${crash.at} ${crash.pid}`, crash]));
    $("no-crashes").hidden = by.size > 0;
    keep($("crash-list"), [...by.keys()], (key) => crashReport(by.get(key)), () => {});
  } catch {
    // The banner says that the connection is lost.
  }
}

function crashReport(crash) {
  const when = new Date(crash.at * 1000);
  const head = make("summary", {}, make("b", {}, crash.name), make("span", {}, crash.why), make("time", {}, when.toLocaleString("en-GB")));
  return make("details", { "data-pid": crash.pid }, head, make("pre", { tabindex: "0" }, crash.text));
}

// ---------------------------------------------------------------------------------------------- the viewer

function dress(theme) {
  document.documentElement.dataset.theme = theme;
  stage.readColours();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const preferred = () => localStorage.getItem("mob-theme") ?? (dark.matches ? "dark" : "light");
dark.addEventListener("change", () => dress(preferred()));
dress(preferred());

function switchTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("mob-theme", theme);
  dress(theme);
}

function help() {
  const rows = KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)]);
  ask("Keys", [make("dl", {}, ...rows)], { yes: "Close", no: "" });
}

new ResizeObserver(([entry]) => {
  stripWidth = entry.contentRect.width;
  if (store.head) showEvents();
}).observe($("strip"));
$("theme").addEventListener("click", switchTheme);
$("help").addEventListener("click", help);
document.querySelector('[data-action="reload-all"]').addEventListener("click", () => actions.reload(""));
const links = [...document.querySelectorAll(".sections a")];

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea, dialog");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === $("log-text")) event.target.blur();
  if (isTyping) return;
  if (event.key === "/") {
    event.preventDefault();
    $("log-text").focus();
  } else if (event.key === "p") logs.pause();
  else if (event.key === "t") switchTheme();
  else if (event.key === "u") actions.unlock();
  else if (event.key === "?") help();
  else if (/^[0-9]$/.test(event.key)) links.filter((link) => !link.hidden)[(Number(event.key) || 10) - 1]?.click();
});

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) links.forEach((link) => link.classList.toggle("here", link.hash === `#${entry.target.id}`));
    }
  },
  { rootMargin: "-110px 0px -75% 0px" },
);
document.querySelectorAll("main section").forEach((section) => watcher.observe(section));

new IntersectionObserver(([entry]) => {
  isTableSeen = entry.isIntersecting;
  if (isTableSeen && store.head) showTables();
}).observe($("mobster-table"));

await actions.start();
connect();
window.mob = { stage, store }; // for the browser's console
