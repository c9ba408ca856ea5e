/**
 * A small Socket.IO client over WebSocket, for browsers.
 *
 * It speaks both generations that 3D Repo's frontends speak:
 *   eio 4: Engine.IO 4 with Socket.IO protocol 5, what socket.io-client 3.x and 4.x send;
 *   eio 3: Engine.IO 3 with Socket.IO protocol 4, what socket.io-client 1.x and 2.x send.
 * Over the first it recovers a lost connection as socket.io-client 4.6 and later does, by `pid` and offset.
 * Left out on purpose, because the chat service has no use for it: polling, binary attachments, acknowledgements.
 *
 * Sources: Engine.IO protocol revisions 4 and 3, Socket.IO protocol revisions 5 and 4.
 */

const ENGINE = Object.freeze({ OPEN: "0", CLOSE: "1", PING: "2", PONG: "3", MESSAGE: "4", NOOP: "6" });
const PACKET = Object.freeze({ CONNECT: 0, DISCONNECT: 1, EVENT: 2, ACK: 3, CONNECT_ERROR: 4 });

const RECONNECT = Object.freeze({ firstMs: 500, maxMs: 5000, jitter: 0.5 });

/** type, number of attachments, namespace (its query is dropped), acknowledgement id, JSON. */
const PACKET_SHAPE = /^([0-6])(?:(\d+)-)?(?:(\/[^,?]*)(?:\?[^,]*)?(?:,|$))?(\d+)?(.*)$/s;

/** What the peer sent is not what the protocol allows. */
export class WireError extends Error {}

/**
 * Write one Socket.IO packet.
 * @param {{type: number, namespace?: string, data?: unknown}} packet
 * @returns {string}
 */
export function encodePacket({ type, namespace = "/", data }) {
  const where = namespace === "/" ? "" : `${namespace},`;
  return `${type}${where}${data === undefined ? "" : JSON.stringify(data)}`;
}

/**
 * Read one Socket.IO packet.
 * @param {string} text the Engine.IO message without its leading "4"
 * @returns {{type: number, namespace: string, data: unknown}}
 * @throws {WireError} when it is no packet, or one with binary attachments
 */
export function decodePacket(text) {
  const match = PACKET_SHAPE.exec(text);
  if (!match) throw new WireError(`not a Socket.IO packet: ${text.slice(0, 40)}`);
  const [, type, attachments, namespace = "/", , json] = match;
  if (attachments || Number(type) > PACKET.CONNECT_ERROR) throw new WireError("binary packets are not supported");
  try {
    return { type: Number(type), namespace, data: json === "" ? undefined : JSON.parse(json) };
  } catch {
    throw new WireError(`not JSON: ${json.slice(0, 40)}`);
  }
}

/**
 * What differs between the generations. Each entry says what happens after the handshake, who pings,
 * and what `socket.id` is.
 */
const GENERATIONS = Object.freeze({
  4: {
    connects: () => true, // the client asks for every namespace, "/" included
    clientPings: false,
    socketId: (engineId, namespace, data) => data?.sid ?? engineId,
    refusal: (data) => data?.message,
  },
  3: {
    connects: (namespace) => namespace !== "/", // the server opens "/" on its own
    clientPings: true,
    socketId: (engineId, namespace) => (namespace === "/" ? engineId : `${namespace}#${engineId}`),
    refusal: (data) => data,
  },
});

/**
 * The WebSocket address of a chat service.
 * @param {{host: string, path: string, eio: number}} where host as in ClientConfig.chatHost, "" for this page's own
 * @returns {string}
 */
export function socketUrl({ host, path, eio }) {
  const url = new URL(`${path.replace(/\/$/, "")}/`, host || window.location.origin);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ EIO: String(eio), transport: "websocket" }).toString();
  return url.href;
}

/** One connection to one namespace. It reconnects until `disconnect` is called or the server says goodbye. */
export class ChatSocket {
  #where;
  #generation;
  #onState;
  #onEvent;
  #ws = null;
  #engineId = null;
  #heartbeat = { everyMs: 0, patienceMs: 0 };
  #pingTimer = 0;
  #deadTimer = 0;
  #retryTimer = 0;
  #attempts = 0;
  #pid = null;
  #offset = undefined;

  /** Whether this connection is the one of before that was lost; the server then sends what was missed. */
  recovered = false;
  /** @type {string | null} the id to name in `x-socket-id`; null while not connected */
  id = null;
  /** @type {"offline" | "connecting" | "connected" | "waiting"} */
  state = "offline";

  /**
   * @param {object} options
   * @param {string} options.host ClientConfig.chatHost
   * @param {string} options.path ClientConfig.chatPath
   * @param {3 | 4} [options.eio] the Engine.IO revision to speak
   * @param {string} [options.namespace]
   * @param {(state: string, reason: string) => void} options.onState
   * @param {(name: string, args: unknown[]) => void} options.onEvent
   */
  constructor({ host, path, eio = 4, namespace = "/", onState, onEvent }) {
    if (!(eio in GENERATIONS)) throw new WireError(`eio must be 3 or 4, not ${eio}`);
    this.#where = { host, path, eio, namespace };
    this.#generation = GENERATIONS[eio];
    this.#onState = onState;
    this.#onEvent = onEvent;
  }

  /** Open the connection; does nothing where there is one already. */
  connect() {
    if (this.#ws) return;
    clearTimeout(this.#retryTimer);
    const ws = new WebSocket(socketUrl(this.#where));
    this.#ws = ws;
    ws.onmessage = ({ data }) => this.#receive(data);
    ws.onclose = ({ code }) => this.#closed(`connection closed (${code})`);
    this.#become("connecting", "");
  }

  /** Say goodbye and stay away. */
  disconnect() {
    if (this.state === "connected") this.#packet({ type: PACKET.DISCONNECT });
    this.#pid = null;
    this.#drop();
    this.#become("offline", "you disconnected");
  }

  /** Close the transport without a goodbye, as a lost network does, and come back by itself after that time. */
  lose(awayMs) {
    this.#closed("connection dropped", awayMs);
  }

  /**
   * Send an event.
   * @throws {WireError} while not connected
   */
  emit(name, ...args) {
    if (this.state !== "connected") throw new WireError("not connected");
    this.#packet({ type: PACKET.EVENT, data: [name, ...args] });
  }

  #become(state, reason) {
    if (state !== "connected") this.id = null;
    this.state = state;
    this.#onState(state, reason);
  }

  #packet(packet) {
    this.#ws.send(ENGINE.MESSAGE + encodePacket({ namespace: this.#where.namespace, ...packet }));
  }

  /** Let go of the WebSocket, whatever state it is in; its late events reach nobody. */
  #drop() {
    for (const timer of [this.#pingTimer, this.#deadTimer, this.#retryTimer]) clearTimeout(timer);
    if (!this.#ws) return;
    this.#ws.onmessage = this.#ws.onclose = null;
    this.#ws.close();
    this.#ws = null;
  }

  /** The connection is gone, not by our wish: try again, later each time, spread so that not all clients come at once. */
  #closed(reason, awayMs) {
    this.#drop();
    const delay = Math.min(RECONNECT.firstMs * 2 ** this.#attempts, RECONNECT.maxMs);
    this.#attempts += 1;
    const spread = 1 + RECONNECT.jitter * (2 * Math.random() - 1);
    this.#retryTimer = setTimeout(() => this.connect(), awayMs ?? delay * spread);
    this.#become("waiting", reason);
  }

  #receive(frame) {
    try {
      if (typeof frame !== "string") throw new WireError("binary frames are not supported");
      this.#engine(frame[0], frame.slice(1));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#closed(error.message);
    }
  }

  #engine(type, rest) {
    switch (type) {
      case ENGINE.OPEN:
        return this.#opened(decodePacket(PACKET.CONNECT + rest).data);
      case ENGINE.CLOSE:
        return this.#closed("the server closed the connection");
      case ENGINE.PING:
        this.#ws.send(ENGINE.PONG + rest);
        return this.#alive();
      case ENGINE.PONG:
        return this.#alive();
      case ENGINE.MESSAGE:
        return this.#message(decodePacket(rest));
      case ENGINE.NOOP:
        return undefined;
      default:
        throw new WireError(`not an Engine.IO packet: ${type}`);
    }
  }

  #opened({ sid, pingInterval, pingTimeout }) {
    this.#engineId = sid;
    this.#heartbeat = { everyMs: pingInterval, patienceMs: pingTimeout };
    this.#alive();
    if (!this.#generation.connects(this.#where.namespace)) return;
    this.#packet({ type: PACKET.CONNECT, data: this.#pid ? { pid: this.#pid, offset: this.#offset } : undefined });
  }

  /** A sign of life came: plan the next ping where pinging is ours, and give up when nothing follows. */
  #alive() {
    const { everyMs, patienceMs } = this.#heartbeat;
    clearTimeout(this.#pingTimer);
    clearTimeout(this.#deadTimer);
    if (this.#generation.clientPings) {
      this.#pingTimer = setTimeout(() => this.#ws.send(ENGINE.PING), everyMs);
    }
    this.#deadTimer = setTimeout(() => this.#closed("no heartbeat"), everyMs + patienceMs);
  }

  #message({ type, namespace, data }) {
    if (namespace !== this.#where.namespace) return;
    switch (type) {
      case PACKET.CONNECT:
        this.#attempts = 0;
        this.id = this.#generation.socketId(this.#engineId, namespace, data);
        this.recovered = Boolean(data?.pid) && data.pid === this.#pid;
        this.#pid = data?.pid ?? null;
        this.#become("connected", "");
        break;
      case PACKET.EVENT:
        this.#onEvent(data[0], data.slice(1));
        // The offset is the last argument of any event, if it is a string: here that of `position`.
        if (typeof data.at(-1) === "string") this.#offset = data.at(-1);
        break;
      case PACKET.DISCONNECT:
        this.#drop();
        this.#become("offline", "the server disconnected this socket");
        break;
      case PACKET.CONNECT_ERROR:
        this.#drop();
        this.#become("offline", `refused: ${this.#generation.refusal(data) ?? "no reason given"}`);
        break;
      default: // an acknowledgement: we never ask for one
    }
  }
}
