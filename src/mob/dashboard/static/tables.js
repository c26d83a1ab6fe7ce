// Roles with their charts, mobsters, exports, ports: the store's contents as rows that are kept.

import { Chart } from "./charts.js";
import { $, bytes, count, keep, make, placeOf, say, seconds, span, stateOf } from "./tools.js";

/** The contents of a store, and the share of requested keys that were there. */
function contentsOf({ keys, bytes: held, hits, misses }) {
  const asked = hits + misses;
  const size = held >= 1024 ? ` in ${bytes(held)}` : "";
  return `${count(keys)} ${keys === 1 ? "key" : "keys"}${size}${asked ? `, ${Math.round((hits / asked) * 100)} % hits` : ""}`;
}

const sum = (table) => Object.values(table).reduce((all, each) => all + each, 0);

export class Roles {
  constructor(store, actions) {
    this.store = store;
    this.actions = actions;
    this.cards = new Map();
  }

  update(hasNewPoints) {
    const names = [...this.store.roles.keys()];
    keep($("role-cards"), names, (name) => this.create(name), (card, name) => this.refresh(card, name, hasNewPoints));
  }

  create(name) {
    const charts = [
      new Chart("calls per second", [{ field: "calls", label: "calls/s", kind: "one", fill: "area" }], count),
      new Chart("time of a call", [
        { field: "p50", label: "p50", kind: "one", skipZeros: true },
        { field: "p99", label: "p99", kind: "two", skipZeros: true },
      ], seconds),
      new Chart("waiting and in hand", [
        { field: "queue", label: "waiting", kind: "two" },
        { field: "hand", label: "in hand", kind: "one", fill: "area" },
      ], count),
      new Chart("failures per second", [{ field: "failures", label: "failures/s", kind: "bad", fill: "bad-area" }], count),
    ];
    const count_ = make("span", { class: "count" });
    const facts = make("small", {});
    const failing = make("p", { class: "failing", hidden: true });
    const button = (text, label, act) => make("button", { class: "small", "aria-label": `${label} ${name}`, title: label, onclick: act }, text);
    const buttons = make("div", { class: "buttons" },
      button("−", "Remove one worker of", () => this.actions.scale(name, -1, this.store.roles.get(name).target)),
      button("+", "Add one worker to", () => this.actions.scale(name, 1)),
      button("Reload", "Reload", () => this.actions.reload(name)),
      button("Restart", "Restart", () => this.actions.restart(name)));
    const card = make("article", { class: "card role", "data-role": name, "aria-label": `Role ${name}` },
      make("header", {}, make("h3", {}, name), count_, facts, buttons, failing),
      make("p", { class: "idle" }, "No calls in the last 15 minutes."),
      make("div", { class: "charts", hidden: true }, ...charts.map((chart) => chart.element)));
    this.cards.set(name, { charts, count: count_, facts, failing });
    card.isNew = true;
    return card;
  }

  refresh(card, name, hasNewPoints) {
    const { charts, count: shown, facts, failing } = this.cards.get(name);
    const role = this.store.roles.get(name);
    const mobsters = this.store.mobstersOf(name);
    const load = mobsters.reduce((all, each) => all + each.load, 0);
    const memory = mobsters.reduce((all, each) => all + each.memory, 0);
    say(shown, `${role.ready} of ${role.target} ready`);
    shown.classList.toggle("short", role.ready < role.target);
    const parts = [`CPU ${Math.round(load * 100)} %`, bytes(memory)];
    if (role.crashes) parts.push(`${role.crashes} ${role.crashes === 1 ? "crash" : "crashes"}`);
    if (role.parked) {
      const size = role.parked_bytes >= 1024 ? ` (${bytes(role.parked_bytes)})` : "";
      parts.push(`${count(role.parked)} ${role.parked === 1 ? "call waits" : "calls wait"} for a worker${size}`);
    }
    const requests = Object.entries(role.requests).sort();
    if (requests.length) parts.push(`HTTP ${requests.map(([status, many]) => `${status} ${count(many)}`).join(", ")}`);
    if (role.store) parts.push(contentsOf(role.store));
    say(facts, parts.join("  ·  "));
    failing.hidden = !role.failing;
    say(failing, role.failing);
    if (!hasNewPoints && !card.isNew) return;
    card.isNew = false;
    const points = this.store.points.get(name) ?? [];
    const isIdle = !mobsters.some((each) => each.calls || each.hand) && !points.some((each) => each.calls || each.failures || each.queue || each.hand);
    card.querySelector(".charts").hidden = isIdle;
    card.querySelector(".idle").hidden = !isIdle;
    const events = this.store.eventsOf(name);
    for (const chart of charts) chart.update(points, events, this.store.head.now);
  }
}

/** A table that is sorted by clicking on a head. `columns`: [{title, left, value(row), fill(cell, row)}]. */
class Table {
  constructor(table, columns, key) {
    this.table = table;
    this.columns = columns;
    this.key = key;
    this.sorted = null;
    this.isDown = true;
    const heads = columns.map((column, number) => {
      const head = make("th", { scope: "col", class: column.left ? "left" : "" });
      head.append(column.value ? make("button", { onclick: () => this.sort(number) }, column.title) : column.title);
      return head;
    });
    table.tHead.append(make("tr", {}, ...heads));
  }

  sort(number) {
    if (this.sorted === number && !this.isDown) this.sorted = null;
    else {
      this.isDown = this.sorted !== number;
      this.sorted = number;
    }
    [...this.table.tHead.rows[0].cells].forEach((cell, each) => {
      if (each === this.sorted) cell.setAttribute("aria-sort", this.isDown ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    this.show(this.rows);
  }

  show(rows) {
    this.rows = rows;
    const by = new Map(rows.map((row) => [this.key(row), row]));
    let ordered = rows;
    if (this.sorted !== null) {
      const { value } = this.columns[this.sorted];
      const compare = (a, b) => (typeof a === "string" ? b.localeCompare(a) : b - a);
      ordered = [...rows].sort((a, b) => compare(value(a), value(b)) * (this.isDown ? 1 : -1));
    }
    keep(this.table.tBodies[0], ordered.map(this.key), (key) => this.row(by.get(key)), (element, key) => {
      const row = by.get(key);
      this.columns.forEach((column, number) => column.fill(element.cells[number], row));
    });
  }

  row(row) {
    const cells = this.columns.map((column) => make("td", { class: `${column.left ? "left" : ""} ${column.kind ?? ""}`.trim() }));
    return make("tr", { "data-key": this.key(row) }, ...cells);
  }
}

const text = (value) => (cell, row) => say(cell, value(row));

export function mobsterTable(store, actions) {
  const load = (cell, row) => {
    if (!cell.firstChild) cell.append(make("meter", { min: 0, max: 1, high: 0.9, optimum: 0, "aria-hidden": "true" }), make("span"));
    const value = Math.min(1, row.load);
    if (cell.firstChild.value !== value) cell.firstChild.value = value;
    say(cell.lastChild, `${Math.round(row.load * 100)} %`);
  };
  const state = (cell, row) => {
    const shown = stateOf(row);
    if (cell.firstChild?.className !== `state s-${shown}`) cell.replaceChildren(make("span", { class: `state s-${shown}` }, shown));
  };
  const buttons = (cell, row) => {
    cell.mobster = row;
    if (cell.firstChild) return;
    const of = placeOf(row);
    cell.append(
      make("button", { class: "small quiet", "aria-label": `Stacks of ${of}`, onclick: () => actions.stacks(cell.mobster) }, "stacks"),
      make("button", { class: "small quiet", "aria-label": `Restart ${of}`, onclick: () => actions.restartOne(cell.mobster) }, "restart"));
  };
  return new Table($("mobster-table"), [
    { title: "mobster", left: true, kind: "name", value: (row) => row.role, fill: text(placeOf) },
    { title: "pid", value: (row) => row.pid, fill: text((row) => String(row.pid)) },
    { title: "state", left: true, value: stateOf, fill: state },
    { title: "up", value: (row) => -row.born, fill: text((row) => span(store.head.now - row.born)) },
    { title: "CPU", value: (row) => row.load, fill: load },
    { title: "memory", value: (row) => row.memory, fill: text((row) => bytes(row.memory)) },
    { title: "lag", value: (row) => row.lag, fill: text((row) => (row.stuck >= 2 ? `${row.stuck} s stuck` : seconds(row.lag))) },
    { title: "calls", value: (row) => row.calls, fill: text((row) => count(row.calls)) },
    { title: "in hand", value: (row) => row.hand, fill: text((row) => String(row.hand)) },
    { title: "waiting", value: (row) => row.waiting, fill: text((row) => String(row.waiting)) },
    { title: "restarts", value: (row) => row.restarts, fill: text((row) => String(row.restarts)) },
    { title: "note", left: true, kind: "note", fill: (cell, row) => { say(cell, row.note); cell.title = row.note; } },
    { title: "", fill: buttons },
  ], (row) => String(row.uid));
}

export function exportTable() {
  const failures = (row) => sum(row.failed) + sum(row.unserved);
  const failed = (cell, row) => {
    const kinds = Object.entries(row.failed).concat(Object.entries(row.unserved));
    cell.classList.toggle("fails", kinds.length > 0 && !row.timer); // a timer is red in its own table
    say(cell, kinds.length ? kinds.map(([kind, many]) => `${kind} ${count(many)}`).join(", ") : "–");
  };
  const pair = (name) => text((row) => `${seconds(row[name][0])} / ${seconds(row[name][1])}`);
  return new Table($("export-table"), [
    { title: "export", left: true, kind: "name", value: (row) => `${row.role}.${row.export}`, fill: text((row) => `${row.role}.${row.export}`) },
    { title: "calls", value: (row) => row.calls, fill: text((row) => count(row.calls)) },
    { title: "in flight", value: (row) => row.flight, fill: text((row) => count(row.flight)) },
    { title: "run p50 / p99", value: (row) => row.run[1], fill: pair("run") },
    { title: "wait p50 / p99", value: (row) => row.wait[1], fill: pair("wait") },
    { title: "failures", left: true, value: failures, fill: failed },
  ], (row) => `${row.role}.${row.export}`);
}

export function timerTable(store) {
  const until = ({ next }) => (!next ? "–" : next - store.head.now >= 1 ? `in ${span(next - store.head.now)}` : "now");
  const ago = ({ last }) => (last ? `${span(store.head.now - last)} ago` : "–");
  const outcome = (cell, row) => {
    if (cell.firstChild?.textContent === (row.outcome || "–")) return;
    cell.replaceChildren(row.outcome ? make("span", { class: `state o-${row.outcome}` }, row.outcome) : "–");
  };
  const note = (row) => [
    row.note, row.running && (row.running === 1 ? "running" : `running ${row.running} times`),
    row.missed && `${count(row.missed)} missed`, row.error,
  ].filter(Boolean).join("; ");
  const at = (value, field) => (cell, row) => {
    say(cell, value(row));
    cell.title = row[field] ? new Date(row[field] * 1000).toLocaleString("en-GB") : "";
  };
  return new Table($("timer-table"), [
    { title: "timer", left: true, kind: "name", value: (row) => row.timer, fill: text((row) => row.timer) },
    { title: "outcome", left: true, value: (row) => row.outcome, fill: outcome },
    { title: "next", value: (row) => row.next, fill: at(until, "next") },
    { title: "last", value: (row) => row.last, fill: at(ago, "last") },
    { title: "took", value: (row) => row.took, fill: text((row) => (row.last ? seconds(row.took) : "–")) },
    { title: "schedule", left: true, value: (row) => row.schedule, fill: text((row) => row.schedule) },
    { title: "note", left: true, kind: "note", fill: (cell, row) => { say(cell, note(row)); cell.title = note(row); } },
  ], (row) => row.timer);
}

export function jobTable() {
  const many = (state) => ({ title: state, value: (row) => row[state], fill: text((row) => count(row[state])) });
  const dead = (cell, row) => {
    cell.classList.toggle("fails", row.dead > 0);
    say(cell, count(row.dead));
  };
  return new Table($("job-table"), [
    { title: "role", left: true, kind: "name", value: (row) => row.role, fill: text((row) => row.role) },
    many("waiting"), many("later"), many("running"),
    { title: "dead", value: (row) => row.dead, fill: dead },
  ], (row) => row.role);
}

/** Connections on shared ports: the number of each worker, and how uneven they are. */
export function showPorts(store) {
  const ports = new Map();
  for (const mobster of store.inOrder()) {
    for (const [address, many] of Object.entries(mobster.ports)) {
      if (!ports.has(address)) ports.set(address, []);
      ports.get(address).push({ name: placeOf(mobster), pid: mobster.pid, many });
    }
  }
  $("no-ports").hidden = ports.size > 0;
  keep($("port-list"), [...ports.keys()].sort(), (address) => make("div", { class: "port", "data-port": address }), (element, address) => {
    const workers = ports.get(address);
    const all = workers.reduce((so, each) => so + each.many, 0);
    const most = Math.max(1, ...workers.map((each) => each.many));
    const uneven = all && workers.length > 1 ? `the busiest has ${(most / (all / workers.length)).toFixed(1)}× its share` : "";
    const shown = JSON.stringify(workers);
    if (element.shown === shown) return;
    element.shown = shown;
    element.replaceChildren(
      make("header", {}, make("b", {}, address), make("small", {}, [`${all} open`, uneven].filter(Boolean).join(", "))),
      make("ul", {}, ...workers.map((each) => make("li", {}, `${each.name}`, make("meter", { min: 0, max: most, value: each.many, "aria-hidden": "true" }), String(each.many)))));
  });
}
