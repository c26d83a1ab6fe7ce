// The state of the app, kept up to date by the feed. It reports what changed, and draws nothing.

const KEPT = 15 * 60;

export class Store {
  constructor() {
    this.clear();
  }

  clear() {
    this.head = null;
    this.roles = new Map();
    this.mobsters = new Map();
    this.exports = new Map();
    this.timers = new Map();
    this.jobs = new Map();
    this.points = new Map();
    this.events = [];
  }

  /** Takes everything, on a new connection. */
  whole(data) {
    this.clear();
    this.tick(data);
  }

  /** Takes what is new. */
  tick(data) {
    this.head = data.head;
    for (const name of ["roles", "mobsters", "exports", "timers", "jobs"]) {
      const table = this[name];
      for (const key of data[name].gone) table.delete(key);
      for (const [key, row] of Object.entries(data[name].put)) table.set(key, row);
    }
    for (const [role, at, calls, failures, queue, hand, p50, p99] of data.points) {
      if (!this.points.has(role)) this.points.set(role, []);
      this.points.get(role).push({ at, calls, failures, queue, hand, p50, p99 });
    }
    for (const [at, kind, text, node] of data.events) this.events.push({ at, kind, text: node ? `${node}: ${text}` : text, node: node ?? "" });
    const oldest = this.head.now - KEPT;
    for (const [role, points] of this.points) {
      while (points.length && points[0].at < oldest) points.shift();
      if (!this.roles.has(role) && !points.length) this.points.delete(role);
    }
    while (this.events.length && this.events[0].at < oldest) this.events.shift();
  }

  mobstersOf(role) {
    return [...this.mobsters.values()].filter((each) => each.role === role);
  }

  /** Mobsters by role in the order of the plan, then by index. */
  inOrder() {
    const order = new Map([...this.roles.keys()].map((name, number) => [name, number]));
    return [...this.mobsters.values()].sort(
      (a, b) => order.get(a.role) - order.get(b.role) || a.index - b.index || a.uid - b.uid,
    );
  }

  /** The latest point of a role. */
  latest(role) {
    return this.points.get(role)?.at(-1) ?? null;
  }

  /** Events that mention a role, or the whole app; with several machines, only those of its own. */
  eventsOf(role) {
    const [name, node] = role.split(":").reverse();
    const word = new RegExp(`(^|[^\\w.-])${name.replace(/[.]/g, "\\.")}(?![\\w-])`);
    return this.events.filter((each) => each.kind !== "note" && each.kind !== "exit" && each.node === (node ?? "") && word.test(each.text));
  }

  /** The machines of the cluster with the pids of their Kingpins, this one first; without a cluster, one without a name. */
  machines() {
    return this.head.machines ?? [["", this.head.pid]];
  }
}
