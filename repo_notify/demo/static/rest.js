/** The REST API of the demo, with a log of what was asked and answered. */

import { clock, copy, el, prepend } from "/console/dom.js";

/** Every sample user's. */
export const PASSWORD = "demo";

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi;

/** A string as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * A request as commands that anybody can paste: curl has no cookie of this browser, so that it logs in first.
 * @param {string | null} user who asks
 * @param {{method: string, path: string, body?: object, emitter?: string | null}} request
 * @returns {string}
 */
export function asCurl(user, { method, path, body, emitter }) {
  const json = (data) => `-H 'Content-Type: application/json' -d ${quoted(JSON.stringify(data))}`;
  const url = (where) => quoted(new URL(where, window.location.origin).href);
  const login = `curl -sS -c cookies.txt ${json({ user, password: PASSWORD })} ${url("/v5/login")}`;
  const parts = [
    "curl -sS -b cookies.txt",
    `-X ${method}`,
    emitter ? `-H ${quoted(`x-socket-id: ${emitter}`)}` : "",
    body === undefined ? "" : json(body),
    url(path),
  ];
  const request = parts.filter(Boolean).join(" ");
  return user ? `${login} &&\n${request}` : request;
}

/** Sends requests with this browser's session cookie and shows each in a log. */
export class Rest {
  #log;
  #currentUser;

  /**
   * @param {HTMLElement} log the list that gets an entry per request
   * @param {() => string | null} currentUser who is logged in
   */
  constructor(log, currentUser) {
    this.#log = log;
    this.#currentUser = currentUser;
  }

  /**
   * Ask, and read the JSON answer.
   * @param {string} method
   * @param {string} path
   * @param {{body?: object, emitter?: string | null}} [options] emitter: the socket id to name in `x-socket-id`
   * @returns {Promise<{ok: boolean, status: number, answer: any}>} status 0 when the server could not be reached
   */
  async send(method, path, { body, emitter } = {}) {
    const headers = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (emitter) headers["x-socket-id"] = emitter;
    const command = asCurl(this.#currentUser(), { method, path, body, emitter });
    const result = await this.#fetch(path, { method, headers, body: body && JSON.stringify(body) });
    this.#show({ method, path, body, emitter, command, ...result });
    return result;
  }

  async #fetch(path, request) {
    try {
      const response = await fetch(path, request);
      return { ok: response.ok, status: response.status, answer: await readJson(response) };
    } catch (error) {
      return { ok: false, status: 0, answer: { message: `the server could not be reached: ${error.message}` } };
    }
  }

  #show({ method, path, body, emitter, command, ok, status, answer }) {
    const short = path.replace(UUID, (id) => `${id.slice(0, 4)}…`);
    const title = el("span", { class: "name", test: "request", title: path }, el("b", {}, method), ` ${short}`);
    const badge = el("span", { class: "status", test: "status" }, String(status || "failed"));
    const sent = { ...(emitter && { "x-socket-id": emitter }), ...body };
    const curl = el("pre", { test: "curl" }, command);
    const button = el("button", { type: "button", class: "copy", test: "copy-curl" }, "Copy as curl");
    button.addEventListener("click", () => copy(curl).then(() => (button.textContent = "Copied")));
    const details = el(
      "details",
      {},
      el("summary", {}, badge, title, el("time", {}, clock())),
      el("pre", { test: "sent" }, `sent ${JSON.stringify(sent, null, 2)}`),
      el("pre", { test: "answer" }, `answer ${JSON.stringify(answer, null, 2)}`),
      button,
      curl,
    );
    details.open = !ok;
    prepend(this.#log, el("li", { class: "entry", "data-kind": ok ? "reply" : "refusal", test: "entry" }, details), 50);
  }
}

async function readJson(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return { text };
  }
}
