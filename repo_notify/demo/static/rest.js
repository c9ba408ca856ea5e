/** The REST API of the demo, with a log of what was asked and answered. */

import { clock, el, prepend } from "/console/dom.js";

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi;

/** Sends requests with this browser's session cookie and shows each in a log. */
export class Rest {
  #log;

  /** @param {HTMLElement} log the list that gets an entry per request */
  constructor(log) {
    this.#log = log;
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
    const result = await this.#fetch(path, { method, headers, body: body && JSON.stringify(body) });
    this.#show({ method, path, body, emitter, ...result });
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

  #show({ method, path, body, emitter, ok, status, answer }) {
    const short = path.replace(UUID, (id) => `${id.slice(0, 4)}…`);
    const title = el("span", { class: "name", test: "request", title: path }, el("b", {}, method), ` ${short}`);
    const badge = el("span", { class: "status", test: "status" }, String(status || "failed"));
    const sent = { ...(emitter && { "x-socket-id": emitter }), ...body };
    const details = el(
      "details",
      {},
      el("summary", {}, badge, title, el("time", {}, clock())),
      el("pre", { test: "sent" }, `sent ${JSON.stringify(sent, null, 2)}`),
      el("pre", { test: "answer" }, `answer ${JSON.stringify(answer, null, 2)}`),
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
