// What bootstrap.py is, for handlers in Node.js: the agent contract on port 8080, and each event to
// the handler by AWS Lambda's contract, one at a time. Node's own modules only.

import { existsSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const PORT = 8080;
const ANSWER_BYTES_MAX = 6 << 20;
const ROOT = path.dirname(fileURLToPath(import.meta.url));
const BEGAN = Math.floor(Date.now() / 1000);
const NAME = process.env.AWS_LAMBDA_FUNCTION_NAME ?? "";

class Failed extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

async function load(text) {
  const dot = text.lastIndexOf(".");
  const [module, name] = [text.slice(0, dot), text.slice(dot + 1)];
  const file = ["mjs", "js", "cjs"]
    .map((suffix) => path.join(ROOT, `${module}.${suffix}`))
    .find((each) => existsSync(each));
  if (file === undefined) {
    throw new Failed("Runtime.ImportModuleError", `Cannot find module '${module}'`);
  }
  let found;
  try {
    found = await import(pathToFileURL(file).href);
  } catch (error) {
    console.error(error);
    throw new Failed("Runtime.ImportModuleError", `${error?.name ?? "Error"}: ${error?.message ?? error}`);
  }
  const handler = found[name] ?? found.default?.[name];
  if (typeof handler !== "function") {
    throw new Failed("Runtime.HandlerNotFound", `${text} is undefined or not exported`);
  }
  return handler;
}

function failure(kind, message, requestId = "", stack = []) {
  const error = { errorMessage: message, errorType: kind, requestId, stackTrace: stack };
  return JSON.stringify({ error });
}

function contextOf(asked, deadline) {
  const custom = asked.context ?? {};
  return {
    awsRequestId: asked.requestId,
    callbackWaitsForEmptyEventLoop: true,
    clientContext: { custom, Custom: custom, env: {}, client: null },
    functionName: NAME,
    functionVersion: "$LATEST",
    identity: undefined,
    invokedFunctionArn: asked.arn,
    logGroupName: `/aws/lambda/${NAME}`,
    logStreamName: "",
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ?? "",
    getRemainingTimeInMillis: () => Math.max(0, Math.floor(deadline - performance.now())),
  };
}

// A handler returns a promise or, with a third parameter, calls back.
function called(handler, event, context) {
  return new Promise((resolve, reject) => {
    const callback = (error, value) => (error ? reject(error) : resolve(value));
    const value = handler(event, context, callback);
    if (typeof value?.then === "function") {
      value.then(resolve, reject);
    } else if (handler.length < 3) {
      resolve(value);
    }
  });
}

let handler;
let broken;
let busy = false;

async function answer(asked, deadline) {
  if (broken !== undefined) {
    return failure(broken.kind ?? "Error", broken.message);
  }
  let value;
  try {
    value = await called(handler, asked.event, contextOf(asked, deadline));
  } catch (error) {
    console.error(error);
    const stack = String(error?.stack ?? "").split("\n").slice(1).map((line) => line.trim());
    return failure(error?.name ?? typeof error, String(error?.message ?? error), asked.requestId, stack);
  }
  let text;
  try {
    text = JSON.stringify({ value: value === undefined ? null : value });
  } catch (error) {
    return failure("Runtime.MarshalError", `Unable to marshal response: ${error.message}`, asked.requestId);
  }
  if (Buffer.byteLength(text) > ANSWER_BYTES_MAX) {
    const size = `Response payload size exceeded maximum allowed payload size (${ANSWER_BYTES_MAX} bytes).`;
    return failure("Function.ResponseSizeTooLarge", size, asked.requestId);
  }
  return text;
}

function send(response, body, then) {
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body, then);
}

async function invoked(request, response) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  const asked = JSON.parse(Buffer.concat(chunks).toString());
  if (busy) {
    send(response, '{"busy": true}');
    return;
  }
  busy = true;
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, asked.timeoutMs, undefined);
  });
  try {
    const body = await Promise.race([answer(asked, performance.now() + asked.timeoutMs), late]);
    if (body === undefined) {
      const seconds = (asked.timeoutMs / 1000).toFixed(2);
      const words = `Task timed out after ${seconds} seconds`;
      console.error(words);
      send(response, failure("Sandbox.Timedout", words, asked.requestId), () => process.exit(1));
      return;
    }
    send(response, body);
  } finally {
    clearTimeout(timer);
    busy = false;
  }
}

process.env.LAMBDA_TASK_ROOT ??= ROOT;
process.env.AWS_LAMBDA_FUNCTION_VERSION ??= "$LATEST";
try {
  handler = await load(process.env._HANDLER ?? "");
} catch (error) {
  broken = error;
}

http
  .createServer((request, response) => {
    if (request.method === "POST") {
      invoked(request, response).catch((error) => {
        console.error(error);
        response.destroy();
      });
      return;
    }
    const status = busy ? "HealthyBusy" : "Healthy";
    send(response, JSON.stringify({ status, time_of_last_update: BEGAN }));
  })
  .listen(PORT, "0.0.0.0");
