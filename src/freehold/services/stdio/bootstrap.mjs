// What bootstrap.py is, for servers in Node.js: streamable HTTP on port 8000, and a process of the
// server's for each session, spoken to over its standard input and output. Node's own modules only.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

const PORT = 8000;
const ROOT = path.dirname(fileURLToPath(import.meta.url));
const BEGAN = Math.floor(Date.now() / 1000);
const SESSIONS_MAX = 16;
const MESSAGE_BYTES_MAX = 6 << 20;
const END_MS = 3000;
const MODERN = "2026-07-28";
const ASKED = JSON.parse(process.env._FREEHOLD_STDIO_COMMAND ?? "{}");
delete process.env._FREEHOLD_STDIO_COMMAND;

const failure = (id, code, message) => ({ jsonrpc: "2.0", id, error: { code, message } });

function command() {
  const [first, ...rest] = ASKED.command;
  if (!ASKED.program) return [process.execPath, [first, ...rest]];
  const own = path.join(ROOT, first);
  return [existsSync(own) ? own : first, rest];
}

// One process of the server's. `waiting`: the requests under way, each with what hears of it.
class Session {
  constructor() {
    this.id = randomUUID().replaceAll("-", "");
    this.waiting = [];
    this.ended = false;
    this.why = "";
    const [program, rest] = command();
    this.process = spawn(program, rest, { cwd: ROOT, stdio: ["pipe", "pipe", "inherit"] });
    this.process.on("error", (error) => this.over(`The server does not start: ${error.message}`));
    this.process.stdin.on("error", () => {}); // it has ended, which is told elsewhere
    this.process.stdout.on("end", () => this.over("The server ended during the request"));
    this.read();
  }

  read() {
    let held = [];
    let size = 0;
    this.process.stdout.on("data", (chunk) => {
      let start = 0;
      for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
        this.line(Buffer.concat([...held, chunk.subarray(start, end)]).toString());
        held = [];
        size = 0;
      }
      held.push(chunk.subarray(start));
      size += chunk.length - start;
      if (size > MESSAGE_BYTES_MAX) {
        console.error("a message of the server's is too long; it is ended");
        this.process.kill("SIGKILL");
      }
    });
  }

  line(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      // Servers that print what is no message are many: it is in the log, and no harm.
      console.error(text);
      return;
    }
    if (message !== null && typeof message === "object") this.whose(message)?.hear(message);
  }

  // Progress is for the request that asked for it; what else the server says of itself, or asks,
  // goes with the newest request.
  whose(message) {
    if (!("method" in message)) return this.waiting.find((each) => each.id === message.id);
    if (message.method === "notifications/progress") {
      const token = message.params?.progressToken;
      return this.waiting.find((each) => each.token === token);
    }
    return this.waiting.at(-1);
  }

  over(why) {
    if (this.ended) return;
    this.ended = true;
    sessions.delete(this.id);
    for (const each of [...this.waiting]) each.hear(failure(each.id, -32603, why));
  }

  tell(message) {
    this.process.stdin.write(`${JSON.stringify(message)}\n`);
  }

  end() {
    sessions.delete(this.id);
    this.process.stdin.end();
    const steps = ["SIGTERM", "SIGKILL"].map((signal, index) =>
      setTimeout(() => this.process.kill(signal), END_MS * (index + 1)),
    );
    this.process.on("exit", () => steps.forEach(clearTimeout));
  }
}

const sessions = new Map();

function begun() {
  const session = new Session();
  sessions.set(session.id, session);
  if (sessions.size > SESSIONS_MAX) sessions.values().next().value.end();
  return session;
}

// The one that was used longest ago comes first.
function found(id) {
  const session = sessions.get(id ?? "");
  if (session !== undefined) {
    sessions.delete(id);
    sessions.set(id, session);
  }
  return session;
}

function send(response, status, value, headers = {}) {
  const body = value === null ? "" : JSON.stringify(value);
  const kind = body ? { "Content-Type": "application/json" } : {};
  response.writeHead(status, { ...kind, "Content-Length": Buffer.byteLength(body), ...headers });
  response.end(body);
}

// One message is an answer of its own; several are a stream.
function ask(session, message, response, headers = {}) {
  const waiting = {
    id: message.id,
    token: message.params?._meta?.progressToken,
    hear(heard) {
      const last = !("method" in heard);
      if (last) session.waiting = session.waiting.filter((each) => each !== waiting);
      if (response.destroyed) return;
      if (last && !response.headersSent) {
        send(response, 200, heard, headers);
        return;
      }
      if (!response.headersSent) {
        response.writeHead(200, { "Content-Type": "text/event-stream", ...headers });
      }
      response.write(`data: ${JSON.stringify(heard)}\n\n`);
      if (last) response.end();
    },
  };
  session.waiting.push(waiting);
  response.on("close", () => {
    session.waiting = session.waiting.filter((each) => each !== waiting);
  });
  if (session.ended) {
    waiting.hear(failure(message.id, -32603, "The server ended during the request"));
  } else {
    session.tell(message);
  }
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}

async function posted(request, response) {
  const message = await read(request);
  if (message === undefined || message === null || typeof message !== "object") {
    send(response, 400, failure(null, -32700, "Parse error"));
    return;
  }
  const { id = null, method } = message;
  const isRequest = method !== undefined && "id" in message;
  if (method === "initialize") {
    const session = begun();
    ask(session, message, response, { "Mcp-Session-Id": session.id });
    return;
  }
  const session = found(request.headers["mcp-session-id"]);
  if (session === undefined && !isRequest) {
    send(response, 404, null);
  } else if (session === undefined && request.headers["mcp-protocol-version"] === MODERN) {
    send(response, 400, failure(id, -32601, "Method not found")); // of the era with sessions
  } else if (session === undefined) {
    send(response, 404, failure(id, -32001, "Session not found"));
  } else if (!isRequest) {
    session.tell(message);
    send(response, 202, null);
  } else {
    ask(session, message, response);
  }
}

http
  .createServer((request, response) => {
    if (request.method === "POST") {
      posted(request, response).catch((error) => {
        console.error(error);
        response.destroy();
      });
    } else if (request.method === "DELETE") {
      const session = found(request.headers["mcp-session-id"]);
      session?.end();
      send(response, session === undefined ? 404 : 200, null);
    } else if (request.url.startsWith("/ping")) {
      const busy = [...sessions.values()].some((each) => each.waiting.length > 0);
      const status = busy ? "HealthyBusy" : "Healthy";
      send(response, 200, { status, time_of_last_update: BEGAN });
    } else {
      send(response, 405, failure(null, -32000, "Method not allowed"));
    }
  })
  .listen(PORT, "0.0.0.0");
