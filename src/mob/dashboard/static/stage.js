// The picture: the Kingpin in the middle, the roles around it, a dot for each mobster, a curve for each link on which
// messages travel. The static part is painted once a second on its own canvas; a frame copies it and moves the dots of
// the messages. Nothing is painted while the picture is not visible or nothing moves.

import { bytes, count, make, placeOf, span, stateOf } from "./tools.js";

const MOST_LINKS = 400;
const MOST_DOTS = 260;
const GOLDEN = 2.399963;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  constructor(canvas, tip, store, onPick) {
    Object.assign(this, { canvas, tip, store, onPick });
    this.still = document.createElement("canvas");
    this.nodes = new Map();
    this.links = [];
    this.flashes = [];
    this.labels = [];
    this.isVisible = true;
    this.frames = 0;
    this.room = { width: 0, height: 0 };
    new ResizeObserver(([entry]) => {
      this.room = entry.contentRect;
      this.update();
    }).observe(canvas);
    new IntersectionObserver(([entry]) => {
      this.isVisible = entry.isIntersecting;
      this.wake();
    }).observe(canvas);
    document.addEventListener("visibilitychange", () => this.wake());
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => this.hide());
    canvas.addEventListener("click", (event) => this.pick(event));
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(
      ["card", "ink", "soft", "line", "raised", "accent", "ready", "booting", "draining", "bad", "flow"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
    this.isDirty = true;
    this.wake();
  }

  colourOf(mobster) {
    const by = { ready: "ready", spare: "soft", draining: "draining", stuck: "bad" };
    return this.colours[by[stateOf(mobster)] ?? "booting"];
  }

  /** Takes changes of the store or of the size. */
  update() {
    if (!this.store.head) return;
    this.canvas.classList.toggle("many", this.store.mobsters.size > 60);
    const { width, height } = this.room;
    if (!width) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (this.width !== width || this.height !== height || this.ratio !== ratio) {
      Object.assign(this, { width, height, ratio });
      for (const each of [this.canvas, this.still]) Object.assign(each, { width: width * ratio, height: height * ratio });
    }
    this.place();
    this.connect();
    const ready = [...this.store.mobsters.values()].filter((each) => each.state === "ready").length;
    this.canvas.setAttribute("aria-label", `The app ${this.store.head.app}: ${this.kingpins.length === 1 ? "a Kingpin" : `${this.kingpins.length} machines`}, ${this.store.roles.size} roles, ${this.store.mobsters.size} mobsters of which ${ready} are ready, ${this.store.head.clients.length} clients. The tables below show the same.`);
    this.isDirty = true;
    this.wake();
  }

  // ------------------------------------------------------------------------------------------------- where

  place() {
    const { width, height, store } = this;
    const ordered = store.inOrder();
    const machines = store.machines();
    const total = store.mobsters.size;
    const size = Math.max(3.2, Math.min(11, Math.sqrt((width * height) / (total + 6)) / 9.5));
    this.size = size;
    const seen = new Set();
    this.labels = [];
    this.kingpins = [];
    const room = height - (store.head.clients.length ? 40 : 0); // the bottom is for the clients
    rowsOf(machines, width, room).forEach((row, number, rows) => {
      const [wide, high] = [width / row.length, room / rows.length];
      row.forEach(([node], place) => {
        const names = [...store.roles.entries()].filter(([, role]) => (role.node ?? "") === node).map(([name]) => name);
        const groups = names.map((role) => ({ role, members: ordered.filter((each) => each.role === role) }));
        this.placeMachine(node, groups, place * wide, number * high, wide, high, seen);
      });
    });
    this.kingpin = machines.length === 1 ? this.kingpins[0] : { x: width / 2, y: height * 0.48 };
    store.head.clients.slice(0, 40).forEach(([uid, pid], place, all) => {
      this.put(uid, { client: pid }, this.kingpin.x + (place - (all.length - 1) / 2) * Math.min(22, (width * 0.5) / all.length), height - 36, seen);
    });
    for (const [uid, node] of this.nodes) {
      if (seen.has(uid)) continue;
      if (node.mobster && node.mobster.state !== "draining") this.flash(node, "bad");
      this.nodes.delete(uid);
    }
  }

  /** Places one machine in its part of the picture: its Kingpin in the middle, its roles around it. */
  placeMachine(node, groups, left, top, width, height, seen) {
    const { size } = this;
    for (const group of groups) group.radius = size * (1.45 * Math.sqrt(Math.max(1, group.members.length)) + 0.9);
    const alone = groups.length === 1;
    const kingpin = { node, x: left + width * (alone ? 0.32 : 0.5), y: top + height * 0.48 };
    this.kingpins.push(kingpin);
    const share = groups.reduce((sum, group) => sum + group.radius + size * 2, 0);
    let angle = Math.PI;
    groups.forEach((group, number) => {
      const part = (0.6 / groups.length + (0.4 * (group.radius + size * 2)) / share) * 2 * Math.PI;
      if (number) angle += part / 2;
      const across = Math.max(60, width / 2 - group.radius - Math.min(90, width * 0.09));
      const down = Math.max(50, height * 0.48 - group.radius - 56);
      const x = alone ? left + width * 0.68 : kingpin.x + across * Math.cos(angle);
      const y = alone ? top + height * 0.48 : kingpin.y + down * Math.sin(angle);
      angle += part / 2;
      this.labels.push({ role: group.role, x, y, radius: group.radius, kingpin });
      group.members.forEach((each, place) => this.put(each.uid, { mobster: each }, ...spot(x, y, size, place, group.members.length), seen));
    });
  }

  put(uid, what, x, y, seen) {
    seen.add(uid);
    const node = this.nodes.get(uid);
    if (node) {
      if (what.mobster && node.mobster && node.mobster.state !== "ready" && what.mobster.state === "ready") this.flash(node, "ready");
      Object.assign(node, what, { toX: x, toY: y });
    } else this.nodes.set(uid, { uid, ...what, x, y, toX: x, toY: y });
  }

  flash(node, colour) {
    if (!calm.matches && this.flashes.length < 60) this.flashes.push({ x: node.toX, y: node.toY, colour, began: performance.now() });
  }

  connect() {
    const links = [];
    for (const mobster of this.store.mobsters.values()) {
      for (const [from, rate] of Object.entries(mobster.traffic)) {
        if (Number(from) !== mobster.uid && this.nodes.has(Number(from))) links.push({ from: Number(from), to: mobster.uid, rate });
      }
    }
    links.sort((a, b) => b.rate - a.rate);
    const old = new Map(this.links.map((link) => [`${link.from} ${link.to}`, link.phase]));
    this.links = links.slice(0, MOST_LINKS);
    this.links.forEach((link, number) => (link.phase = old.get(`${link.from} ${link.to}`) ?? (number * 0.618) % 1));
  }

  // ------------------------------------------------------------------------------------------------ painting

  get moves() {
    return !calm.matches && (this.links.length > 0 || this.flashes.length > 0 || this.isSettling);
  }

  wake() {
    if (this.asked || !this.isVisible || document.hidden || !this.width) return;
    this.asked = requestAnimationFrame((now) => {
      this.asked = 0;
      this.paint(now);
      if (this.moves) this.wake();
    });
  }

  paint(now) {
    const seconds = Math.min(0.1, (now - (this.last ?? now)) / 1000);
    this.last = now;
    this.frames += 1;
    this.settle(seconds);
    if (this.isDirty || this.isSettling) this.paintStill();
    this.isDirty = false;
    const paint = this.canvas.getContext("2d");
    paint.setTransform(1, 0, 0, 1, 0, 0);
    paint.clearRect(0, 0, this.canvas.width, this.canvas.height);
    paint.drawImage(this.still, 0, 0);
    paint.scale(this.ratio, this.ratio);
    if (!calm.matches) this.paintMessages(paint, seconds);
    this.flashes = this.flashes.filter((each) => now - each.began < 1400);
    for (const each of this.flashes) {
      const age = (now - each.began) / 1400;
      paint.globalAlpha = 1 - age;
      paint.strokeStyle = this.colours[each.colour];
      paint.lineWidth = 2;
      circle(paint, each.x, each.y, this.size * (1 + 2.4 * age));
      paint.stroke();
    }
    paint.globalAlpha = 1;
  }

  settle(seconds) {
    this.isSettling = false;
    for (const node of this.nodes.values()) {
      const x = node.toX - node.x;
      const y = node.toY - node.y;
      if (Math.abs(x) + Math.abs(y) < 0.5 || calm.matches) Object.assign(node, { x: node.toX, y: node.toY });
      else {
        const part = 1 - Math.exp(-seconds * 9);
        node.x += x * part;
        node.y += y * part;
        this.isSettling = true;
      }
    }
  }

  paintStill() {
    const paint = this.still.getContext("2d");
    paint.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    paint.clearRect(0, 0, this.width, this.height);
    paint.font = "12.5px system-ui, sans-serif";
    paint.textAlign = "center";
    for (const label of this.labels) this.paintSpoke(paint, label);
    for (const label of this.labels) this.paintGroup(paint, label);
    for (const label of this.labels) this.paintName(paint, label); // last, so that no neighbour hides it
    paint.strokeStyle = this.colours.flow;
    const thin = Math.min(1, Math.sqrt(24 / (this.links.length + 1))); // the more there are, the less each may hide
    for (const link of this.links) {
      const [a, b, bend] = this.curve(link);
      paint.globalAlpha = Math.min(0.6, 0.16 + 0.11 * Math.log10(1 + link.rate)) * (0.25 + 0.75 * thin);
      paint.lineWidth = Math.min(5, 0.6 + 0.8 * Math.log10(1 + link.rate)) * (0.4 + 0.6 * thin);
      paint.beginPath();
      paint.moveTo(a.x, a.y);
      paint.quadraticCurveTo(bend.x, bend.y, b.x, b.y);
      paint.stroke();
    }
    paint.globalAlpha = 1;
    for (const node of this.nodes.values()) node.mobster ? this.paintMobster(paint, node) : this.paintClient(paint, node);
    for (const kingpin of this.kingpins) this.paintKingpin(paint, kingpin);
    this.paintClients(paint);
  }

  paintSpoke(paint, { x, y, kingpin }) {
    paint.strokeStyle = this.colours.line;
    paint.lineWidth = 1.5;
    paint.beginPath();
    paint.moveTo(kingpin.x, kingpin.y);
    paint.lineTo(x, y);
    paint.stroke();
  }

  paintGroup(paint, { x, y, radius }) {
    paint.fillStyle = this.colours.raised;
    circle(paint, x, y, radius + this.size * 0.9);
    paint.fill();
  }

  paintName(paint, { role, x, y, radius, kingpin }) {
    const { colours } = this;
    const row = this.store.roles.get(role);
    const rate = this.store.latest(role)?.calls ?? 0;
    const isAbove = y < kingpin.y - 30; // then the label is above, too, to keep the line to the Kingpin clear
    const under = isAbove ? y - radius - this.size - 24 : y + radius + this.size + 16;
    paint.fillStyle = colours.ink;
    paint.font = "600 13px system-ui, sans-serif";
    paint.fillText(kingpin.node ? role.slice(kingpin.node.length + 1) : role, x, under);
    paint.font = "12px system-ui, sans-serif";
    paint.fillStyle = row.failing ? colours.bad : colours.soft;
    paint.fillText(row.failing ? "failing" : `${row.ready}/${row.target}${rate ? `  ·  ${count(rate)} calls/s` : ""}`, x, under + 16);
  }

  paintMobster(paint, { mobster, x, y }) {
    const radius = this.size * 0.8;
    paint.fillStyle = this.colours.card;
    circle(paint, x, y, radius + 1.5);
    paint.fill();
    paint.fillStyle = this.colourOf(mobster);
    paint.globalAlpha = 0.35 + 0.65 * Math.min(1, mobster.load * 1.2);
    circle(paint, x, y, radius);
    paint.fill();
    paint.globalAlpha = 1;
    paint.strokeStyle = this.colourOf(mobster);
    paint.lineWidth = 1.5;
    paint.stroke();
  }

  paintClient(paint, { x, y }) {
    paint.fillStyle = this.colours.card;
    paint.strokeStyle = this.colours.soft;
    paint.lineWidth = 1.5;
    paint.beginPath();
    paint.roundRect(x - 5, y - 5, 10, 10, 3);
    paint.fill();
    paint.stroke();
  }

  paintKingpin(paint, { node, x, y }) {
    const { colours } = this;
    paint.fillStyle = colours.card;
    circle(paint, x, y, 23);
    paint.fill();
    paint.fillStyle = colours.accent;
    circle(paint, x, y, 20);
    paint.fill();
    paint.fillStyle = colours.card;
    paint.beginPath(); // a crown
    const crown = [[-9, 6], [-10, -5], [-4.5, 0], [0, -8], [4.5, 0], [10, -5], [9, 6]];
    crown.forEach(([dx, dy], number) => (number ? paint.lineTo(x + dx, y + dy) : paint.moveTo(x + dx, y + dy)));
    paint.closePath();
    paint.fill();
    paint.fillStyle = colours.ink;
    paint.font = "600 13px system-ui, sans-serif";
    paint.fillText(node || "Kingpin", x, y + 38);
  }

  paintClients(paint) {
    paint.fillStyle = this.colours.soft;
    paint.font = "12px system-ui, sans-serif";
    const clients = this.store.head.clients.length;
    if (clients) paint.fillText(clients === 1 ? "1 client" : `${clients} clients`, this.kingpin.x, this.height - 14);
  }

  paintMessages(paint, seconds) {
    paint.fillStyle = this.colours.flow;
    let left = MOST_DOTS;
    for (const link of this.links) {
      link.phase = (link.phase + seconds * Math.min(0.9, 0.22 + 0.12 * Math.log10(1 + link.rate))) % 1;
      const dots = Math.min(left, link.rate > 1000 ? 3 : link.rate > 50 ? 2 : 1);
      const [a, b, bend] = this.curve(link);
      for (let dot = 0; dot < dots; dot++) {
        const t = (link.phase + dot / dots) % 1;
        const u = 1 - t;
        paint.fillRect(u * u * a.x + 2 * u * t * bend.x + t * t * b.x - 1.5, u * u * a.y + 2 * u * t * bend.y + t * t * b.y - 1.5, 3, 3);
      }
      left -= dots;
      if (left <= 0) return;
    }
  }

  /** The ends of a link and the point that bends it towards the middle, a little to one side for each direction. */
  curve(link) {
    const a = this.nodes.get(link.from);
    const b = this.nodes.get(link.to);
    const side = 0.1;
    const x = (a.x + b.x) / 2;
    const y = (a.y + b.y) / 2;
    return [a, b, { x: x + (this.kingpin.x - x) * 0.25 - (b.y - a.y) * side, y: y + (this.kingpin.y + 60 - y) * 0.25 + (b.x - a.x) * side }];
  }

  // ------------------------------------------------------------------------------------------------- pointing

  nearest(event) {
    let best = null;
    let least = Math.max(12, this.size * 1.6) ** 2;
    for (const node of this.nodes.values()) {
      const distance = (node.x - event.offsetX) ** 2 + (node.y - event.offsetY) ** 2;
      if (distance < least) [best, least] = [node, distance];
    }
    return best;
  }

  hover(event) {
    const node = this.nearest(event);
    this.canvas.classList.toggle("points", Boolean(node));
    if (!node) return this.hide();
    this.tip.replaceChildren(...this.told(node));
    this.tip.hidden = false;
    const left = Math.min(event.offsetX + 14, this.width - this.tip.offsetWidth - 8);
    this.tip.style.left = `${Math.max(8, left)}px`;
    this.tip.style.top = `${Math.min(event.offsetY + 14, this.height - this.tip.offsetHeight - 8)}px`;
  }

  hide() {
    this.tip.hidden = true;
  }

  told(node) {
    if (!node.mobster) return [make("b", {}, "client"), `pid ${node.client}`];
    const each = node.mobster;
    const lines = [`pid ${each.pid}, ${stateOf(each)}, up ${span(this.store.head.now - each.born)}`, `CPU ${Math.round(each.load * 100)} %, ${bytes(each.memory)}`];
    if (each.hand || each.waiting) lines.push(`${each.hand} in hand, ${each.waiting} waiting`);
    const inward = Object.values(each.traffic).reduce((sum, rate) => sum + rate, 0);
    if (inward) lines.push(`${count(inward)} messages/s received`);
    if (each.note) lines.push(each.note);
    return [make("b", {}, placeOf(each)), ...lines.flatMap((line) => [line, make("br")])];
  }

  pick(event) {
    const node = this.nearest(event);
    if (node?.mobster) this.onPick(node.mobster);
  }
}

/** Machines in rows that fill the picture: as many rows as make each part about twice as wide as it is high. */
export function rowsOf(machines, width, height) {
  const columns = Math.min(machines.length, Math.ceil(Math.sqrt((machines.length * width) / (height * 2.2))));
  const many = Math.ceil(machines.length / columns);
  return Array.from({ length: many }, (_, row) => machines.slice(Math.round((row * machines.length) / many), Math.round(((row + 1) * machines.length) / many)));
}

/** The place of a dot: on a ring if there are few, else like the seeds of a sunflower. */
function spot(x, y, size, place, many) {
  if (many === 1) return [x, y];
  if (many <= 7) {
    const angle = (place / many) * 2 * Math.PI - Math.PI / 2;
    const radius = size * (many < 3 ? 1.35 : 1.3 / Math.sin(Math.PI / many));
    return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
  }
  const radius = size * 1.45 * Math.sqrt(place + 0.5);
  return [x + radius * Math.cos(place * GOLDEN), y + radius * Math.sin(place * GOLDEN)];
}

function circle(paint, x, y, radius) {
  paint.beginPath();
  paint.arc(x, y, radius, 0, 2 * Math.PI);
}
