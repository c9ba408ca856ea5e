/** One client of the chat service: its socket, the rooms it wants to be in, and a log of what arrived. */

import { clock, el, part, prepend } from "/console/dom.js";
import { ChatSocket } from "/console/wire.js";

/** What an arrival is, by its name; the first row that fits. The kind decides the colour in the log. */
const KINDS = [
  [/^message$|^joined$/, "reply"],
  [/^error$|^credentialError$/, "refusal"],
  [/^loggedOut$/, "session"],
  [/otification(Upserted|Deleted)$/, "notification"],
  [/Removed$|Deleted$/, "removal"],
  [/(Comment|commentChanged|commentCreated|commentUpdated)$/, "comment"],
  [/Ticket(Group)?$/, "ticket"],
  [/ssue(s|Changed|Created|Updated)$/, "issue"],
  [/Revision(Update)?$/, "revision"],
  [/./, "model"],
];

/** What a reply to an action says was done. */
const DONE = Object.freeze({ join: "joined", leave: "left" });

/** What is said to this connection alone, and so is never missed. */
const NEVER_MISSED = ["note", "reply", "refusal", "session"];

/** How long a pane is away that drops its connection. */
const AWAY_MS = 2000;

const STATES = Object.freeze({
  offline: "not connected",
  connecting: "connecting …",
  connected: "connected",
  waiting: "reconnecting …",
});

/**
 * Which kind of thing arrived.
 * @param {string} name the event's name on the wire
 */
export function kindOf(name) {
  return KINDS.find(([pattern]) => pattern.test(name))[1];
}

/** Word of a gap in place of what was missed. */
const isGap = (name, payload) => name === "message" && payload?.event === "gap";

/** The same room is the same key, however the object's members are ordered, and since whenever it is joined. */
const roomKey = (room) => JSON.stringify(Object.entries(room ?? {}).filter(([name]) => name !== "since").sort());

/** A pane on the page. */
export class Pane {
  #root;
  #socket;
  #roomsFor;
  #currentUser;
  #onChange;
  #wanted = new Map();
  #joined = new Set();
  /** Why each room was refused, by its key. */
  #refused = new Map();
  /** Engine.IO 3 has no recovery of its own: such a pane joins since the last position, null before the first. */
  #joinsSince;
  #position = null;
  /** Joins without an answer yet: what was missed in those rooms is older than the positions that others are told. */
  #unanswered = new Set();
  /** What became of the connection that was lost: "recovered" or "gap"; "" where none was. */
  #recovery = "";
  /** Whether what arrives now was missed; so it is until the position behind it. */
  #catchingUp = false;
  /** Who this pane was when its connection was lost. */
  #before = null;

  /** @type {string | null} whom the socket is bound to, as far as this page can know */
  user = null;

  /**
   * @param {object} options
   * @param {string} options.name "v5" or "v4", in `data-test`
   * @param {string} options.title
   * @param {{host: string, path: string, eio: 3 | 4}} options.where
   * @param {(user: string | null) => {id: string, label: string, hint: string, room: object}[]} options.roomsFor
   * @param {() => string | null} options.currentUser whose cookie the browser sends now
   * @param {(kind?: string) => void} options.onChange gets the kind of what arrived, if that is what changed
   */
  constructor({ name, title, where, roomsFor, currentUser, onChange }) {
    this.#root = document.getElementById("pane").content.cloneNode(true).firstElementChild;
    this.#root.setAttribute("data-test", `pane-${name}`);
    this.#root.setAttribute("aria-label", title);
    part(this.#root, "title").textContent = title;
    this.#roomsFor = roomsFor;
    this.#currentUser = currentUser;
    this.#onChange = onChange;
    this.#joinsSince = where.eio === 3;
    this.#socket = new ChatSocket({
      ...where,
      onState: (state, reason) => this.#stateChanged(state, reason),
      onEvent: (event, args) => this.#arrived(event, args),
    });
    part(this.#root, "connect").addEventListener("click", () => (this.online ? this.disconnect() : this.connect()));
    part(this.#root, "drop").addEventListener("click", () => this.#socket.lose(AWAY_MS));
    part(this.#root, "clear").addEventListener("click", () => this.#clear());
    this.draw();
  }

  get element() {
    return this.#root;
  }

  get socketId() {
    return this.#socket.id;
  }

  /** Connected, or on the way there by itself. */
  get online() {
    return this.#socket.state !== "offline";
  }

  get connected() {
    return this.#socket.state === "connected";
  }

  get roomCount() {
    return this.#joined.size;
  }

  /** How much has arrived, without the page's own notes. */
  get count() {
    return this.#root.querySelectorAll(".entry:not([data-kind='note'])").length;
  }

  /** Whether the socket is in the room of that choice. */
  isIn(id) {
    const choice = this.#choice(id);
    return choice !== undefined && this.#joined.has(roomKey(choice.room));
  }

  /** Why the room of that choice was refused to this socket's user; undefined where it was not. */
  refusal(id) {
    const choice = this.#choice(id);
    return choice && this.#refused.get(roomKey(choice.room));
  }

  #choice(id) {
    return this.#roomsFor(this.user).find((choice) => choice.id === id);
  }

  connect() {
    this.#socket.connect();
  }

  disconnect() {
    this.#wanted.clear();
    this.#position = null;
    this.#before = null;
    this.#socket.disconnect();
  }

  /** A request of `user` named this socket: one without a user is bound to that session from now on. */
  namedBy(user) {
    this.user ??= user;
    this.draw();
  }

  /** Show state, user and rooms as they are now. */
  draw() {
    const { state, id } = this.#socket;
    const badge = part(this.#root, "state");
    badge.textContent = STATES[state];
    badge.dataset.state = state;
    part(this.#root, "recovery").textContent = this.#recovery;
    part(this.#root, "recovery").dataset.recovery = this.#recovery;
    part(this.#root, "drop").disabled = !this.connected;
    part(this.#root, "connect").textContent = this.online ? "Disconnect" : "Connect";
    part(this.#root, "socket-id").textContent = id ?? "–";
    part(this.#root, "user").textContent = this.connected ? (this.user ?? "not logged in") : "–";
    this.#drawRooms();
  }

  #drawRooms() {
    const box = part(this.#root, "rooms");
    const focused = document.activeElement?.closest("[data-test]")?.dataset.test;
    const hadFocus = box.contains(document.activeElement);
    box.replaceChildren(...this.#roomsFor(this.user).map((choice) => this.#chip(choice)));
    if (hadFocus) part(box, focused)?.focus();
  }

  #chip({ id, label, hint, room }) {
    const key = roomKey(room);
    const inside = this.#joined.has(key);
    const chip = el(
      "button",
      { type: "button", class: "chip", test: `room-${id}`, title: hint, "aria-pressed": String(inside) },
      label,
    );
    chip.disabled = !this.connected;
    chip.addEventListener("click", () => this.#ask(inside ? "leave" : "join", room));
    return chip;
  }

  #ask(action, room) {
    if (action === "leave") {
      this.#wanted.delete(roomKey(room));
      this.#socket.emit("leave", room);
      return;
    }
    this.#wanted.set(roomKey(room), room);
    this.#join(room, null);
  }

  #join(room, since) {
    this.#unanswered.add(roomKey(room));
    this.#socket.emit("join", this.#joinsSince ? { ...room, since } : room);
  }

  #stateChanged(state, reason) {
    this.#recovery = "";
    this.#catchingUp = false;
    if (state === "connected") return this.#nowConnected();
    if (state === "waiting") this.#before ??= this.user;
    if (state === "offline") this.#begin();
    // The handshake carries the cookie of the moment at which it starts, whoever logs in until it is answered.
    this.user = state === "connecting" ? this.#currentUser() : null;
    if (reason) this.#note(reason);
    this.draw();
    this.#onChange();
  }

  #nowConnected() {
    const { id, recovered } = this.#socket;
    const before = this.#before;
    if (recovered) {
      this.#recovery = "recovered";
      this.#catchingUp = true;
      this.user = before;
    }
    const whose = before && before !== this.user ? `; not recovered, as it was ${before}'s` : "";
    this.#note(`${recovered ? "recovered" : "connected"} as ${this.user ?? "nobody"}${whose}`, { id });
    this.#before = null;
    if (!recovered) this.#begin();
    this.draw();
    if (!recovered) for (const room of this.#wanted.values()) this.#join(room, this.#position);
    this.#onChange();
  }

  /** A session begins, which is in no room. */
  #begin() {
    this.#joined.clear();
    this.#refused.clear();
    this.#unanswered.clear();
  }

  #arrived(name, args) {
    const payload = args[0];
    if (name === "position") {
      this.#catchingUp = false;
      this.#has(payload);
      return;
    }
    if (name === "message") this.#replied(payload);
    if (name === "error") this.#settled(payload?.details, false, payload?.message);
    if (name === "loggedOut") this.#loggedOut();
    const kind = isGap(name, payload) ? "refusal" : kindOf(name);
    this.#log({ name, kind, payload, says: this.#saying(name, payload), open: kind !== "reply" });
    this.draw();
    this.#onChange(kind);
  }

  /** A reply came, or word of a gap: the history does not reach back to what this pane had. */
  #replied(payload) {
    if (payload?.gap || isGap("message", payload)) this.#recovery = "gap";
    else if (payload?.replayed !== undefined) this.#recovery ||= "recovered";
    if (!isGap("message", payload)) this.#settled(payload?.data, true);
    if (payload?.replayed > 0) this.#catchingUp = true;
    else if (payload?.position) this.#has(payload.position);
  }

  /** This pane has had everything until that position, if it knows what it missed in each room. */
  #has(position) {
    if (!this.#unanswered.size) this.#position = position;
  }

  /** What a reply means, in a few words. */
  #saying(name, payload) {
    if (isGap(name, payload)) return payload.data.reason;
    const { action, data } = (name === "message" ? payload?.data : payload?.details) ?? {};
    if (!DONE[action]) return "";
    const key = roomKey(data);
    const where = this.#roomsFor(this.user).find(({ room }) => roomKey(room) === key)?.label ?? "";
    return name === "message" ? `${DONE[action]} ${where}` : `${action} ${where}: ${payload.message}`;
  }

  /** A join or leave was answered; the answer's `data` is the object as it was sent. */
  #settled(answer, success, why) {
    const key = roomKey(answer?.data);
    this.#unanswered.delete(key);
    this.#refused.delete(key);
    if (!success) {
      this.#wanted.delete(key);
      this.#refused.set(key, why);
    }
    if (success && answer?.action === "join") this.#joined.add(key);
    else this.#joined.delete(key);
  }

  #loggedOut() {
    this.user = null;
    this.#wanted.clear();
    this.#joined.clear();
  }

  #note(text, payload) {
    this.#log({ name: text, kind: "note", payload, open: false });
  }

  #log({ name, kind, payload, open, says = "" }) {
    const cut = name.includes("::") ? name.lastIndexOf("::") + 2 : 0;
    const title = el("span", { class: "name", test: "name" }, el("i", {}, name.slice(0, cut)), name.slice(cut));
    const missed = this.#catchingUp && !NEVER_MISSED.includes(kind);
    const when = el("span", { class: "when" }, el("time", {}, clock()));
    if (missed) when.append(el("span", { class: "missed", test: "missed" }, "missed"));
    const heading = [title, el("span", { class: "says", test: "says" }, says), when];
    const entry = el("li", { class: "entry", "data-kind": kind, test: "entry" });
    if (payload === undefined) {
      entry.append(el("p", {}, ...heading));
    } else {
      const json = el("pre", { test: "payload" }, JSON.stringify(payload, null, 2));
      const details = el("details", {}, el("summary", {}, ...heading), json);
      details.open = open;
      entry.append(details);
    }
    prepend(part(this.#root, "log"), entry);
    this.#countUp();
  }

  #countUp() {
    part(this.#root, "count").textContent = String(this.count);
  }

  #clear() {
    part(this.#root, "log").replaceChildren();
    this.#countUp();
    this.#onChange();
  }
}
