// Charts of the last 15 minutes, as SVG: at most two lines, a readable axis, marks for events, a cursor for the pointer
// and for the arrow keys.

import { clock, make, svg } from "./tools.js";

const SPAN = 15 * 60;
const HEIGHT = 100;
const TOP = 16;
const BOTTOM = 18;

/** The next number that is easy to read on an axis. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

export class Chart {
  /** `lines`: [{field, kind, label}]; `show`: a value as text. */
  constructor(title, lines, show) {
    this.title = title;
    this.lines = lines;
    this.show = show;
    this.points = [];
    this.events = [];
    this.cursor = null;
    this.value = make("output", {});
    this.canvas = svg("svg", { role: "img", "aria-label": title, tabindex: "0", preserveAspectRatio: "none" });
    this.element = make("figure", { class: "chart" }, make("figcaption", {}, caption(lines), this.value), this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    this.width = 0; // reported by the browser: asking for it after each change would lay out the page each time
    new ResizeObserver(([entry]) => {
      this.width = entry.contentRect.width;
      this.draw();
    }).observe(this.canvas);
  }

  update(points, events, now) {
    this.points = points;
    this.events = events;
    this.now = now;
    this.draw();
  }

  x(at) {
    return this.width * (1 - (this.now - at) / SPAN);
  }

  point(offset) {
    if (offset === null || !this.points.length) this.cursor = null;
    else {
      const at = this.now - SPAN * (1 - offset / this.width);
      this.cursor = this.points.reduce((best, each) => (Math.abs(each.at - at) < Math.abs(best.at - at) ? each : best)).at;
    }
    this.draw();
  }

  step(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !this.points.length) return;
    event.preventDefault();
    const here = this.points.findIndex((each) => each.at === this.cursor);
    const next = here < 0 ? this.points.length - 1 : Math.min(this.points.length - 1, Math.max(0, here + move));
    this.cursor = this.points[next].at;
    this.draw();
  }

  draw() {
    if (!this.width || this.now === undefined) return;
    const most = ceiling(Math.max(0, ...this.points.flatMap((each) => this.lines.map((line) => each[line.field]))));
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
    const parts = [this.axis(most, y), ...this.events.map((each) => this.mark(each))];
    for (const line of this.lines) parts.push(...this.line(line, y));
    const shown = this.points.find((each) => each.at === this.cursor);
    if (shown) parts.push(svg("line", { class: "cursor", x1: this.x(shown.at), x2: this.x(shown.at), y1: TOP - 4, y2: HEIGHT - BOTTOM }));
    this.canvas.replaceChildren(...parts);
    const latest = shown ?? this.points.at(-1);
    const text = latest ? this.lines.map((line) => this.show(latest[line.field])).join(" / ") : "–";
    this.value.textContent = shown ? `${clock(shown.at)}  ${text}` : text;
    this.canvas.setAttribute("aria-label", `${this.title}: ${text}${shown ? ` at ${clock(shown.at)}` : " now"}, axis up to ${this.show(most)}`);
  }

  axis(most, y) {
    const group = svg("g", { "aria-hidden": "true" });
    for (const value of [0, most]) group.append(svg("line", { class: "grid", x1: 0, x2: this.width, y1: y(value), y2: y(value) }));
    if (this.points.some((each) => this.lines.some((line) => each[line.field]))) {
      group.append(text(this.width, y(most) - 4, this.show(most), "end"));
    }
    const named = [[15, "start"], [10, "middle"], [5, "middle"], [0, "end"]];
    for (const [minutes, anchor] of this.width < 230 ? [named[0], named[3]] : named) {
      group.append(text(this.width * (1 - minutes / 15), HEIGHT - 4, minutes ? `−${minutes} min` : "now", anchor));
    }
    return group;
  }

  line({ field, kind, fill, skipZeros }, y) {
    const points = skipZeros ? this.points.filter((each) => each[field]) : this.points; // without calls there is no time
    if (!points.length) return [];
    const path = points.map((each, number) => {
      const far = number && each.at - points[number - 1].at > 20; // there are no measurements in between
      return `${number && !far ? "L" : "M"}${this.x(each.at).toFixed(1)} ${y(each[field]).toFixed(1)}`;
    });
    const drawn = [svg("path", { class: kind, d: path.join("") })];
    if (fill) {
      const first = this.x(points[0].at).toFixed(1);
      const last = this.x(points.at(-1).at).toFixed(1);
      const area = `${path.join("").replaceAll("M", "L").replace("L", "M")}L${last} ${y(0)}L${first} ${y(0)}Z`;
      drawn.unshift(svg("path", { class: fill, d: area }));
    }
    return drawn;
  }

  mark(event) {
    const x = this.x(event.at);
    const line = svg("line", { class: "mark", x1: x, x2: x, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM - 9 });
    return svg("g", { class: `k-${event.kind}` }, line, svg("title", {}, `${event.kind}: ${event.text}`));
  }
}

/** The timeline: a mark for each event, in rows by kind so that they do not hide each other. */
export function strip(events, now, width, onPick) {
  const drawn = svg("svg", { role: "img", "aria-label": `${events.length} events in the last 15 minutes` });
  const x = (at) => Math.max(4, Math.min(width - 4, width * (1 - (now - at) / SPAN)));
  const rows = { crash: 8, hang: 8, restart: 19, reload: 19, recycle: 19, scale: 30 };
  drawn.append(svg("line", { class: "grid", x1: 0, x2: width, y1: 37, y2: 37 }));
  for (let minutes = 0; minutes <= 15; minutes += 5) {
    const anchor = { 15: "start", 0: "end" }[minutes] ?? "middle";
    drawn.append(text(width * (1 - minutes / 15), 51, minutes ? `−${minutes} min` : "now", anchor));
  }
  for (const event of events) {
    const at = { cx: x(event.at).toFixed(1), cy: rows[event.kind] ?? 30, r: event.kind in rows ? 5 : 3.5 };
    const mark = svg("circle", { class: "blob", ...at }, svg("title", {}, `${clock(event.at)} ${event.kind}: ${event.text}`));
    mark.addEventListener("click", () => onPick(event));
    drawn.append(svg("g", { class: `k-${event.kind}`, "data-kind": event.kind }, mark));
  }
  return drawn;
}

/** The names of the lines, each in the color of its line. */
function caption(lines) {
  const names = lines.map((line) => make("span", { class: `c-${line.kind}` }, line.label));
  return make("span", {}, ...names.flatMap((name, number) => (number ? [" / ", name] : [name])));
}

function text(x, y, said, anchor) {
  return svg("text", { x, y, "text-anchor": anchor }, said);
}
