// The viewer's actions: the token, questions before anything that disrupts, results as toasts.

import { $, make, placeOf } from "./tools.js";

const KEY = "mob-token";

/** The token from the address, which is then removed from it, so that it is not in bookmarks and screenshots. */
export function findToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY) ?? "";
}

export function toast(text, isError = false) {
  const shown = make("div", { class: isError ? "toast error" : "toast" }, text);
  $("toasts").append(shown);
  while ($("toasts").children.length > 5) $("toasts").firstElementChild.remove();
  setTimeout(() => shown.remove(), isError ? 12000 : 6000);
}

/** Asks a question; resolves to true if the answer was yes. `body`: elements. */
export function ask(title, body, { yes = "OK", no = "Cancel", wide = false } = {}) {
  const dialog = $("dialog");
  if (dialog.open) dialog.close();
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...body);
  $("dialog-yes").textContent = yes;
  $("dialog-no").hidden = !no;
  $("dialog-no").textContent = no;
  dialog.classList.toggle("wide", wide);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export class Actions {
  constructor(onToken) {
    this.token = findToken();
    this.onToken = onToken;
    $("dialog-no").addEventListener("click", () => $("dialog").close("no"));
    $("unlock").addEventListener("click", () => this.unlock());
    addEventListener("hashchange", () => this.take(findToken()));
  }

  async start() {
    if (this.token && !(await this.login())) this.token = "";
    this.show();
  }

  /** Takes a new token: the URL with the token was opened where the page was already open. */
  async take(token) {
    if (token === this.token) return;
    this.token = token;
    await this.start();
    if (this.token) this.onToken();
  }

  show() {
    $("unlock").textContent = this.token ? "Actions unlocked" : "Unlock actions";
    $("unlock").classList.toggle("unlocked", Boolean(this.token));
  }

  async login() {
    try {
      return (await fetch("/api/login", { method: "POST", headers: { "X-Mob-Token": this.token } })).ok;
    } catch {
      return true; // the server cannot be reached now; the next action will show it
    }
  }

  /** Asks for the token; resolves to true if there is one now. */
  async unlock() {
    const input = make("input", { type: "password", "aria-label": "Token", autocomplete: "off", value: this.token });
    const hint = make("p", {}, "It is in the URL that the app printed when it started: dashboard: http://…#token=…");
    if (!(await ask("Enter the token", [hint, input], { yes: "Unlock" }))) return false;
    this.token = input.value.trim();
    const fits = Boolean(this.token) && (await this.login());
    if (fits) sessionStorage.setItem(KEY, this.token);
    else {
      this.token = "";
      toast("That is not the token of this app.", true);
    }
    this.show();
    if (fits) this.onToken();
    return fits;
  }

  /** Sends a request to the server; resolves to its answer, or null if there is none. */
  async post(name, body) {
    if (!this.token && !(await this.unlock())) return null;
    try {
      const response = await fetch(`/api/${name}`, {
        method: "POST",
        headers: { "X-Mob-Token": this.token, "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      const answer = await response.json();
      if (response.ok) return answer;
      if (response.status === 401) {
        this.token = "";
        sessionStorage.removeItem(KEY);
        this.show();
      }
      toast(answer.error ?? `${name} failed (${response.status}).`, true);
    } catch {
      toast(`${name}: the dashboard cannot be reached; the action may or may not have been carried out.`, true);
    }
    return null;
  }

  async act(name, body, question) {
    if (question && !(await ask(question.title, [make("p", {}, question.text)], { yes: question.yes }))) return;
    const answer = await this.post(name, body);
    if (answer) toast(answer.text);
  }

  scale(role, change, ready) {
    const question = change < 0 && { title: `Remove one worker of ${role}?`, text: `It finishes its calls and exits. ${ready - 1} of ${ready} stay.`, yes: "Scale down" };
    return this.act("scale", { role, change }, question);
  }

  reload(role) {
    const text = "New workers with new code replace the old ones, which finish their calls. Nothing is interrupted.";
    return this.act("reload", { roles: role ? [role] : [] }, { title: role ? `Reload ${role}?` : "Reload all roles?", text, yes: "Reload" });
  }

  restart(role) {
    const text = "All its workers exit at once, and new ones start. Until then calls wait, and connections break.";
    return this.act("restart", { role }, { title: `Restart ${role}?`, text, yes: "Restart" });
  }

  restartOne(mobster) {
    const text = "It finishes its calls and exits; a new worker replaces it.";
    return this.act("restart", mobster.node ? { pid: mobster.pid, node: mobster.node } : { pid: mobster.pid }, { title: `Restart ${placeOf(mobster)} (pid ${mobster.pid})?`, text, yes: "Restart" });
  }

  async stacks(mobster) {
    const answer = await this.post("stacks", { uid: mobster.uid });
    const title = `Stacks of ${placeOf(mobster)} (pid ${mobster.pid})`;
    if (answer) await ask(title, [make("pre", { tabindex: "0" }, answer.text || "No stacks available.")], { yes: "Close", no: "", wide: true });
  }
}
