// Live logs: the latest lines in memory, those that pass the filter on the page, scrolled to the end unless the viewer
// scrolled up.

import { $, clock, make, placeOf } from "./tools.js";

const KEPT = 2000;
const SHOWN = 600;

export class Logs {
  constructor() {
    this.lines = [];
    this.isPaused = false;
    this.missed = 0;
    this.box = $("log-lines");
    $("log-role").addEventListener("change", () => this.redraw());
    $("log-text").addEventListener("input", () => this.redraw());
    $("log-pause").addEventListener("click", () => this.pause());
    $("log-clear").addEventListener("click", () => {
      this.lines = [];
      this.redraw();
    });
  }

  pause() {
    this.isPaused = !this.isPaused;
    $("log-pause").setAttribute("aria-pressed", String(this.isPaused));
    if (!this.isPaused) this.redraw();
    this.label();
  }

  label() {
    $("log-pause").textContent = this.isPaused ? `Resume${this.missed ? ` (${this.missed} new)` : ""}` : "Pause";
  }

  roles(names) {
    const select = $("log-role");
    if ([...select.options].slice(1).map((each) => each.value).join() === names.join()) return;
    const chosen = select.value;
    select.replaceChildren(make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, name)));
    select.value = names.includes(chosen) ? chosen : "";
  }

  whole(lines) {
    this.lines = lines.map(read);
    if (!this.isPaused) this.redraw();
  }

  add({ lines, left_out: leftOut }) {
    const more = lines.map(read);
    if (leftOut) more.push({ leftOut: `${leftOut.toLocaleString("en")} lines were left out here, because they came too fast.` });
    this.lines.push(...more);
    this.lines.splice(0, Math.max(0, this.lines.length - KEPT));
    if (this.isPaused) {
      this.missed += more.length;
      this.label();
    } else this.append(more.filter((line) => this.passes(line)));
  }

  passes(line) {
    if (line.leftOut) return true;
    const role = $("log-role").value;
    const text = $("log-text").value.toLowerCase();
    return (!role || line.role === role) && (!text || `${line.name} ${line.text}`.toLowerCase().includes(text));
  }

  redraw() {
    this.missed = 0;
    this.box.replaceChildren();
    this.append(this.lines.filter((line) => this.passes(line)), true);
  }

  append(lines, toEnd = false) {
    const isAtEnd = toEnd || this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 30;
    this.box.append(...lines.slice(-SHOWN).map(drawn));
    while (this.box.children.length > SHOWN) this.box.firstElementChild.remove();
    if (isAtEnd) this.box.scrollTop = this.box.scrollHeight;
  }
}

function read([at, role, index, pid, isError, text]) {
  return { at, role, name: role.endsWith("kingpin") ? role.replace("kingpin", "Kingpin") : role ? placeOf({ role, index }) : "", pid, isError, text };
}

function drawn(line) {
  if (line.leftOut) return make("div", { class: "left-out" }, line.leftOut);
  return make("div", { class: line.isError ? "error" : "", title: `pid ${line.pid}` },
    make("span", { class: "when" }, clock(line.at)), make("span", { class: "who" }, line.name), line.text);
}
