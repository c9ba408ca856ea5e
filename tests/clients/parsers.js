/*
 * Runs the parsers that shipped with old socket.io versions, for test_parsers.py.
 *
 * On stdin a JSON list of jobs, [parser, operation, value]; on stdout the list of their results. `parser` is an npm alias of
 * package.json. Binary travels as {"__bytes__": "<base64>"}, both ways. A parser's own error packet is a result like any.
 */
'use strict';

const { createRequire } = require('node:module');

const requireInstalled = createRequire(process.argv[2] + '/');

function fromWire(key, value) {
  return value && typeof value.__bytes__ === 'string' ? Buffer.from(value.__bytes__, 'base64') : value;
}

/* Buffer#toJSON has run before a replacer sees the value. */
function toWire(key, value) {
  if (value && value.type === 'Buffer' && Array.isArray(value.data)) {
    return { __bytes__: Buffer.from(value.data).toString('base64') };
  }
  return value;
}

function collect(decode) {
  const found = [];
  decode((item) => { found.push(item); });
  return found;
}

const operations = {
  encodePayload: (parser, { packets, binary }) => collect((done) => parser.encodePayload(packets, binary, done))[0],
  decodePayload: (parser, body) => collect((done) => parser.decodePayload(body, 'nodebuffer', done)),
  encodePacket: (parser, packet) => collect((done) => parser.encodePacket(packet, true, done))[0],
  decodePacket: (parser, frame) => parser.decodePacket(frame, 'nodebuffer'),
  encodeMessage: (parser, packet) => collect((done) => new parser.Encoder().encode(packet, done))[0],
  decodeMessage: (parser, frames) => collect((done) => {
    const decoder = new parser.Decoder();
    decoder.on('decoded', done);
    frames.forEach((frame) => decoder.add(frame));
  }),
};

const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk));
process.stdin.on('end', () => {
  const jobs = JSON.parse(Buffer.concat(chunks).toString(), fromWire);
  const results = jobs.map(([parser, operation, value]) => operations[operation](requireInstalled(parser), value));
  process.stdout.write(JSON.stringify(results, toWire));
});
