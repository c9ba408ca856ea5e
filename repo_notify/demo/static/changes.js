/** Step 3: the buttons that make changes, and what is remembered of what they made. */

import { el, part } from "/console/dom.js";
import { TRIGGERS } from "/console/triggers.js";

/** The panel. The page it belongs to is asked for everything that others own. */
export class Changes {
  #root;
  #rest;
  #page;
  #buttons = new Map();
  #armed = null;
  #count = 1;
  /** What was made last, by what it was made on: a model, or the user who is notified. */
  #made = new Map();

  /**
   * @param {HTMLElement} root
   * @param {import("/console/rest.js").Rest} rest
   * @param {object} page
   * @param {() => {teamspace: string, users: object[], projects: object[]}} page.world
   * @param {() => string | null} page.user who acts
   * @param {(name: string) => import("/console/pane.js").Pane | undefined} page.pane
   * @param {() => Promise<void>} page.reload asks for the world again
   * @param {() => number} page.arrivals how many events have arrived so far
   * @param {(change: import("/console/unheard.js").Change) => void} page.made is told of each change that was made
   */
  constructor(root, rest, page) {
    this.#root = root;
    this.#rest = rest;
    this.#page = page;
    part(root, "triggers").append(...TRIGGERS.map((group) => this.#group(group)));
    part(root, "target").addEventListener("change", () => this.draw());
    part(root, "recipient").addEventListener("change", () => this.draw());
  }

  /** Show the models and users there are, and which buttons make sense now. */
  draw() {
    const { projects, users } = this.#page.world();
    const option = (value, label) => el("option", { value }, label);
    offer(part(this.#root, "recipient"), users.map(({ username }) => option(username, username)));
    offer(
      part(this.#root, "target"),
      projects.map(({ name, models }) => {
        const group = el("optgroup", { label: name });
        group.append(...models.map((model) => option(model._id, `${model.name} · ${model.kind}`)));
        return group;
      }),
    );
    const user = this.#page.user();
    part(this.#root, "acting").textContent = user ? `as ${user}` : "log in first";
    for (const [row, button] of this.#buttons) this.#drawButton(row, button);
  }

  /** Forget what was made: it is there no more. */
  forget() {
    this.#made.clear();
    this.draw();
  }

  #group({ title, rows, toUser }) {
    const heading = el("h3", {}, title);
    if (toUser) heading.append(el("select", { test: "recipient", "aria-label": "Who is notified" }));
    const buttons = rows.map((row) => {
      const button = el("button", { type: "button", test: `trigger-${row.id}` }, row.label);
      button.addEventListener("click", () => this.#clicked(row));
      this.#buttons.set(row, button);
      return button;
    });
    const width = rows.length < 3 ? "group short" : "group";
    return el("div", { class: width }, heading, el("div", { class: "buttons" }, ...buttons));
  }

  #drawButton(row, button) {
    const model = this.#model();
    const obstacle = this.#obstacle(row, model);
    button.disabled = Boolean(obstacle);
    button.title = obstacle;
    button.classList.toggle("armed", this.#armed === row);
    button.textContent = this.#armed === row ? `Really remove ${model.name}?` : row.label;
  }

  /** Why this row cannot be used now; "" when it can. */
  #obstacle(row, model) {
    if (!this.#page.user()) return "Log in first";
    if (!model) return "There is no model";
    if (!row.kinds.includes(model.kind)) return `Not for a ${model.kind}`;
    if (row.needs && !this.#memory(row)[row.needs]) return `Make a ${NEEDED[row.needs]} first`;
    return "";
  }

  #model() {
    const id = part(this.#root, "target").value;
    for (const { _id: project, models } of this.#page.world().projects) {
      const model = models.find(({ _id }) => _id === id);
      if (model) return { ...model, project };
    }
    return undefined;
  }

  #memory(row) {
    const key = row.toUser ? `user ${part(this.#root, "recipient").value}` : `model ${this.#model()?._id}`;
    if (!this.#made.has(key)) this.#made.set(key, {});
    return this.#made.get(key);
  }

  async #clicked(row) {
    const confirmed = !row.confirm || this.#armed === row;
    this.#armed = confirmed ? null : row;
    if (confirmed) await this.#make(row);
    this.draw();
  }

  async #make(row) {
    const made = this.#memory(row);
    const [method, path, body] = row.request({
      teamspace: this.#page.world().teamspace,
      model: this.#model(),
      username: part(this.#root, "recipient").value,
      made,
      count: this.#count++,
    });
    const emitter = this.#root.querySelector("input[name=emitter]:checked").value;
    const pane = this.#page.pane(emitter);
    const model = this.#model();
    const username = part(this.#root, "recipient").value;
    // The event may arrive before the answer does.
    const arrivals = this.#page.arrivals();
    const { ok, answer } = await this.#rest.send(method, path, { body, emitter: pane?.socketId });
    if (!ok) return;
    this.#page.made({ row, model, username, emitter, arrivals });
    pane?.namedBy(this.#page.user());
    Object.assign(made, row.learns?.(answer));
    if (row.changesWorld) await this.#page.reload();
  }
}

const NEEDED = Object.freeze({
  revision: "revision",
  ticket: "ticket",
  ticketComment: "ticket comment",
  issue: "issue",
  issueComment: "comment on the issue",
  notification: "notification",
});

/** Replace what a select offers; what was chosen stays chosen where it is still there. */
function offer(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...choices);
  if ([...select.options].some(({ value }) => value === chosen)) select.value = chosen;
}
