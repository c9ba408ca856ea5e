/*
 * Runs real socket.io-client versions for tests/clients/harness.py.
 *
 * One JSON object a line. On stdin, commands; on stdout, what happened to each socket, in order:
 *   {op: "connect", id, client, url, opts}    opens socket `id` with the npm alias `sio-<client>`
 *   {op: "emit", id, event, args, ack?}       with `ack` a number, the acknowledgement is reported under it
 *   {op: "disconnect", id}                    socket.disconnect()
 *   {op: "open", id}                          socket.connect(), after a disconnect
 *   {op: "drop", id}                          cuts the transport without a goodbye, as a lost network does
 *   {op: "close", id}                         closes the Engine.IO connection, without leaving the namespace
 *   {op: "throw", id, event}                  adds a listener of that event that throws each time
 *   {op: "transport", id, ack}                reports the current transport's name under `ack`
 *   {id, kind: "connect", socketId, transport, recovered?}    `recovered` as the client itself has it
 *   {id, kind: "upgrade", transport}
 *   {id, kind: "disconnect", reason}
 *   {id, kind: "connect_error", message, data?}
 *   {id, kind: "event", event, args}          every event of the server, `error` included; where the server asks for an
 *                                             acknowledgement it gets the event's own arguments back
 *   {id, kind: "ack", ack, args}
 *   {id, kind: "thrown", event}               a listener of "throw" has thrown, and nobody caught it
 *   {id, kind: "refused", message}            the command cannot be carried out; no `id` when the line is no command
 * Binary travels as {"__bytes__": "<base64>"}, both ways. The process ends when stdin does.
 */
'use strict';

const readline = require('node:readline');
const { createRequire } = require('node:module');

const requireInstalled = createRequire(process.argv[2] + '/');
const sockets = new Map();

const isBinary = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);

function toBuffer(value) {
  return value instanceof ArrayBuffer ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

function mapValues(value, convert) {
  const converted = convert(value);
  if (converted !== undefined) return converted;
  if (Array.isArray(value)) return value.map((item) => mapValues(item, convert));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapValues(item, convert)]));
}

const fromWire = (value) => mapValues(value, (item) => {
  if (item && typeof item.__bytes__ === 'string') return Buffer.from(item.__bytes__, 'base64');
});

const toWire = (value) => mapValues(value, (item) => {
  if (isBinary(item)) return { __bytes__: toBuffer(item).toString('base64') };
});

function report(line) {
  process.stdout.write(JSON.stringify(toWire(line)) + '\n');
}

/* What a listener of "throw" throws. */
class ListenerError extends Error {
  constructor(id, event) {
    super(`a listener of ${event} threw`);
    Object.assign(this, { id, event });
  }
}

/* In a browser nobody catches it, and the page goes on; Node would end the process. */
function survive(error) {
  if (!(error instanceof ListenerError)) {
    console.error(error);
    process.exit(1);
  }
  report({ id: error.id, kind: 'thrown', event: error.event });
}

function transportName(socket) {
  const engine = socket.io.engine;
  return engine && engine.transport ? engine.transport.name : null;
}

/*
 * Reports every event of the server. 3.x and later offer onAny; 1.x and 2.x have nothing of the kind, but every event
 * packet passes through Socket#onevent(packet) on its way to the listeners, so the instance's own is wrapped.
 */
function watchEvents(id, socket) {
  const seen = (event, args) => report({ id, kind: 'event', event, args });
  if (typeof socket.onAny === 'function') {
    socket.onAny((event, ...args) => {
      const acknowledge = typeof args.at(-1) === 'function' ? args.pop() : undefined;
      seen(event, args);
      if (acknowledge) acknowledge(...args);
    });
    return;
  }
  const original = socket.onevent;
  socket.onevent = function onevent(packet) {
    const [event, ...args] = packet.data || [];
    seen(event, args);
    original.call(this, packet);
    if (packet.id !== undefined && packet.id !== null) this.ack(packet.id)(...args);
  };
}

/*
 * connect_error is the socket's own in 3.x and later, also for a refused namespace. In 1.x and 2.x it tells of the
 * transport alone; a refused namespace is an ERROR packet, which these versions emit locally as `error`.
 */
function watchConnection(id, socket) {
  socket.on('connect', () => {
    report({ id, kind: 'connect', socketId: socket.id, transport: transportName(socket), recovered: socket.recovered });
  });
  // The manager makes an engine anew for each connection, and announces it by `open`.
  socket.io.on('open', () => {
    socket.io.engine.on('upgrade', (transport) => report({ id, kind: 'upgrade', transport: transport.name }));
  });
  socket.on('disconnect', (reason) => report({ id, kind: 'disconnect', reason }));
  const failed = (error) => report({
    id,
    kind: 'connect_error',
    message: error instanceof Error ? error.message : error,
    data: error instanceof Error ? error.data : undefined,
  });
  socket.on('connect_error', failed);
  if (typeof socket.onAny === 'function') return;
  const original = socket.onpacket;
  socket.onpacket = function onpacket(packet) {
    const ERROR = 4;
    if (packet.nsp === this.nsp && packet.type === ERROR) failed(packet.data);
    original.call(this, packet);
  };
}

function find(id) {
  const socket = sockets.get(id);
  if (!socket) throw new Error(`no socket is called ${id}`);
  return socket;
}

const operations = {
  connect({ id, client, url, opts }) {
    if (sockets.has(id)) throw new Error(`a socket is called ${id} already`);
    const io = requireInstalled(`sio-${client}`);
    // Not auto-connected: the watchers have to be in place before the first packet.
    const socket = io(url, { forceNew: true, ...opts, autoConnect: false });
    // 1.x and 2.x throw on an `error` that nobody listens to.
    socket.on('error', () => {});
    watchConnection(id, socket);
    watchEvents(id, socket);
    sockets.set(id, socket);
    socket.connect();
  },
  emit({ id, event, args, ack }) {
    const acknowledged = (...reply) => report({ id, kind: 'ack', ack, args: reply });
    find(id).emit(event, ...fromWire(args), ...(ack === undefined ? [] : [acknowledged]));
  },
  disconnect({ id }) {
    find(id).disconnect();
  },
  open({ id }) {
    find(id).connect();
  },
  drop({ id }) {
    const engine = find(id).io.engine;
    if (!engine) throw new Error(`socket ${id} has no transport`);
    const raw = engine.transport.ws;
    if (raw && raw.terminate) raw.terminate();
    else engine.transport.onError('dropped');
  },
  close({ id }) {
    find(id).io.engine.close();
  },
  throw({ id, event }) {
    find(id).on(event, () => {
      throw new ListenerError(id, event);
    });
  },
  transport({ id, ack }) {
    report({ id, kind: 'ack', ack, args: [transportName(find(id))] });
  },
};

function execute(line) {
  let command = {};
  try {
    command = JSON.parse(line);
    const operation = operations[command.op];
    if (!operation) throw new Error(`no operation is called ${command.op}`);
    operation(command);
  } catch (error) {
    report({ id: command.id, kind: 'refused', message: error.message });
  }
}

process.on('uncaughtException', survive);
const lines = readline.createInterface({ input: process.stdin });
lines.on('line', execute);
lines.on('close', () => process.exit(0));
