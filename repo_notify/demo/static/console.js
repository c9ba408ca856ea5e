/** The page: who is logged in, two clients side by side, and changes to watch. */

import { Changes } from "/console/changes.js";
import { el, part } from "/console/dom.js";
import { Pane } from "/console/pane.js";
import { PASSWORD, Rest } from "/console/rest.js";
import { whyUnheard } from "/console/unheard.js";

/** Kept in the browser while somebody is logged in; who, is asked only then: else the answer would be a refusal. */
const LOGGED_IN = "repo_notify.console.loggedIn";

/** Which Engine.IO each pane speaks: what the frontends that listen for its names bring. */
const EIO = Object.freeze({ v5: 4, v4: 3 });

/** How long a change may take to arrive before the page says why it did not. */
const PATIENCE_MS = 1000;

const NOBODY = Object.freeze({ teamspace: "", users: [], projects: [] });

/** Rooms of the v5 protocol, as choices of a pane. */
function v5Rooms({ teamspace, projects }) {
  const own = {
    id: "notifications",
    label: "own notifications",
    hint: "any logged-in user",
    room: { notifications: true },
  };
  const perProject = projects.flatMap(({ _id: project, name, models }) => [
    {
      id: `project-${project}`,
      label: `project ${name}`,
      hint: "its admins, or the teamspace's",
      room: { teamspace, project },
    },
    ...models.map(({ _id: model, name: label, kind }) => ({
      id: `model-${model}`,
      label,
      hint: `${kind}: who may read it`,
      room: { teamspace, project, model },
    })),
  ]);
  return [own, ...perProject];
}

/** Rooms of the v4 protocol, as choices of a pane. */
function v4Rooms({ teamspace, projects }, user) {
  const own = { id: "account", label: `account ${user}`, hint: "own notifications", room: { account: user } };
  const models = projects.flatMap((project) => project.models);
  return [
    ...(user ? [own] : []),
    { id: "teamspace", label: `teamspace ${teamspace}`, hint: "its admins", room: { account: teamspace } },
    ...models.map(({ _id: model, name: label, kind }) => ({
      id: `model-${model}`,
      label,
      hint: `${kind}: who may read it`,
      room: { account: teamspace, model },
    })),
  ];
}

/**
 * What to do next, for somebody who sees this page for the first time: the first row that holds.
 * Each row: when, which step, what to do.
 */
const GUIDE = [
  [({ unheard }) => Boolean(unheard), "listen", ({ unheard }) => unheard],
  [
    ({ panes, user }) => !user && !panes.some((pane) => pane.user),
    "login",
    "Start as the one who listens: log in as carol, a viewer.",
  ],
  [
    ({ panes }) => !panes.some((pane) => pane.online),
    "listen",
    "Now connect both panes; their sockets take over your session.",
  ],
  [
    ({ panes }) => panes.some((pane) => pane.connected && !pane.user),
    "listen",
    "A pane has no user: reconnect it while you are logged in.",
  ],
  [({ panes }) => !panes.some((pane) => pane.roomCount), "listen", "Join rooms in both panes, Structure for one."],
  [
    ({ panes, user }) => panes.every((pane) => pane.user === user),
    "login",
    "Log in as alice: the panes stay who they are. Or change something right away.",
  ],
  [({ user }) => !user, "login", "Log in as alice, so that you may change something."],
  [() => true, "change", "Make a change in step 3 and watch it arrive."],
];

class Console {
  #world = NOBODY;
  #user = null;
  #rest = new Rest(part(document, "requests"), () => this.#user);
  #panes;
  #changes;
  /** Why nobody heard of the change that was made last; "" where somebody did. */
  #unheard = "";
  #patience = 0;
  #arrivals = 0;

  /** @param {{chatHost: string, chatPath: string}} config */
  constructor({ chatHost, chatPath }) {
    const pane = (name, title, rooms) =>
      new Pane({
        name,
        title,
        where: { host: chatHost, path: chatPath, eio: EIO[name] },
        roomsFor: (user) => rooms(this.#world, user),
        currentUser: () => this.#user,
        onChange: (kind) => this.#paneChanged(kind),
      });
    this.#panes = new Map([
      ["v5", pane("v5", "v5 client", v5Rooms)],
      ["v4", pane("v4", "v4 client", v4Rooms)],
    ]);
    part(document, "counts").append(
      ...[...this.#panes.keys()].map((name) => el("div", {}, el("dt", {}, name), el("dd", { test: `count-${name}` }, "0"))),
    );
    part(document, "panes").append(...[...this.#panes.values()].map(({ element }) => element));
    this.#changes = new Changes(part(document, "step-change"), this.#rest, {
      world: () => this.#world,
      user: () => this.#user,
      pane: (name) => this.#panes.get(name),
      reload: () => this.#reload(),
      arrivals: () => this.#arrivals,
      made: (change) => this.#awaitHearers(change),
    });
    part(document, "logout").addEventListener("click", () => this.#logout());
    part(document, "reset").addEventListener("click", () => this.#reset());
    part(document, "connect-both").addEventListener("click", () => this.#connectAll());
    part(document, "clear-requests").addEventListener("click", () => part(document, "requests").replaceChildren());
  }

  /** Learn who is logged in and what there is, then show it. */
  async start() {
    if (localStorage.getItem(LOGGED_IN)) {
      const { ok, answer } = await this.#rest.send("GET", "/v5/login");
      this.#becomes(ok ? answer.username : null);
    }
    await this.#reload();
  }

  async #reload() {
    const response = await fetch("/demo/world");
    if (!response.ok) throw new Error(`GET /demo/world answered ${response.status}`);
    this.#world = await response.json();
    this.#draw();
  }

  async #login(username) {
    const body = { user: username, password: PASSWORD };
    const { ok, answer } = await this.#rest.send("POST", "/v5/login", { body });
    if (ok) this.#becomes(answer.username);
    this.#draw();
  }

  async #logout() {
    const { ok } = await this.#rest.send("POST", "/v5/logout", { body: {} });
    if (ok) this.#becomes(null);
    this.#draw();
  }

  /** Have the sample data made anew; what the sockets are in stays as it is. */
  async #reset() {
    const { ok } = await this.#rest.send("POST", "/demo/reset", { body: {} });
    if (ok) this.#changes.forget();
    await this.#reload();
  }

  /** What a change sends arrives within moments: what has not, nobody was to hear. */
  #awaitHearers(change) {
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => {
      this.#unheard = this.#arrivals > change.arrivals ? "" : whyUnheard(change, this.#panes);
      this.#guide();
    }, PATIENCE_MS);
  }

  #paneChanged(kind) {
    if (kind && kind !== "refusal" && kind !== "reply") this.#arrivals += 1;
    this.#unheard = "";
    for (const [name, pane] of this.#panes) part(document, `count-${name}`).textContent = String(pane.count);
    this.#guide();
  }

  #becomes(user) {
    this.#unheard = "";
    this.#user = user;
    if (user) localStorage.setItem(LOGGED_IN, "yes");
    else localStorage.removeItem(LOGGED_IN);
  }

  /** Connect both panes as who is logged in now, those that are connected anew. */
  #connectAll() {
    for (const pane of this.#panes.values()) {
      if (pane.online) pane.disconnect();
      pane.connect();
    }
  }

  #draw() {
    this.#drawUsers();
    this.#changes.draw();
    for (const pane of this.#panes.values()) pane.draw();
    this.#guide();
  }

  #drawUsers() {
    const box = part(document, "users");
    if (box.children.length !== this.#world.users.length) {
      box.replaceChildren(...this.#world.users.map((user) => this.#userButton(user)));
    }
    for (const button of box.children) button.setAttribute("aria-pressed", String(button.value === this.#user));
    part(document, "logout").disabled = !this.#user;
    part(document, "reset").hidden = !this.#world.resettable;
    part(document, "reset").disabled = !this.#user;
  }

  #userButton({ username, role }) {
    const button = el(
      "button",
      { type: "button", class: "user", value: username, test: `login-${username}` },
      el("span", { class: "avatar", "aria-hidden": "true" }, username[0].toUpperCase()),
      el("span", { class: "who" }, el("b", {}, username), el("small", {}, role)),
    );
    button.addEventListener("click", () => this.#login(username));
    return button;
  }

  /** Say what to do next, and mark the step it is in. */
  #guide() {
    const situation = { panes: [...this.#panes.values()], user: this.#user, unheard: this.#unheard };
    const [, step, says] = GUIDE.find(([holds]) => holds(situation));
    const advice = typeof says === "string" ? says : says(situation);
    const guide = part(document, "guide");
    if (guide.textContent !== advice) guide.textContent = advice;
    for (const name of ["login", "listen", "change"]) {
      part(document, `step-${name}`).setAttribute("aria-current", name === step ? "step" : "false");
    }
    const allOnline = situation.panes.every((pane) => pane.online);
    const button = part(document, "connect-both");
    button.textContent = allOnline ? "Reconnect both" : "Connect both";
    button.classList.toggle("primary", !allOnline);
  }
}

/** Say on the page itself why it cannot work. */
function complain(reason) {
  const guide = part(document, "guide");
  guide.classList.add("failed");
  guide.textContent = reason;
}

if (typeof ClientConfig === "undefined") {
  complain("The page cannot start: /config/config.js did not set ClientConfig.");
} else {
  new Console(ClientConfig).start().catch((error) => complain(`The page cannot start: ${error.message}`));
}
