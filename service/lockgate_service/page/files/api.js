// Requests to the API, beside the stream.

import { parse } from "./json.js";
import { toast } from "./toast.js";

const LIMIT_MILLISECONDS = 30_000;

/** Why a request was refused: the message is for people, `problem` is the document. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail || `the service answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** The answer, decoded. `body`: an object, or JSON as text. Raises Refused. */
export async function send(method, path, body, signal) {
  const limit = AbortSignal.timeout(LIMIT_MILLISECONDS);
  const options = { method, signal: signal ? AbortSignal.any([signal, limit]) : limit };
  if (body !== undefined) {
    options.body = typeof body === "string" ? body : JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error(signal?.aborted ? "stopped" : "the service cannot be reached");
  }
  if (answer.status === 401) location.reload();
  const text = await answer.text();
  let value = null;
  try {
    value = text ? parse(text) : null;
  } catch {
    // not JSON: whatever stands between us and the service says something
  }
  if (!answer.ok) throw new Refused(answer.status, value);
  return value;
}

/** The same, and says `done`; what goes wrong is said, and gives undefined. */
export async function tell(method, path, done, body) {
  try {
    const value = await send(method, path, body);
    toast(done);
    return value ?? true;
  } catch (error) {
    toast(`Not done: ${error.message}`, true);
    return undefined;
  }
}

export const kill = (id) => tell("POST", `tasks/${id}/cancel`, `Task ${id} is being killed`, { force: true });

export const resumeQueue = (name) =>
  tell("POST", `queues/${encodeURIComponent(name)}/resume`, `Queue ${name} goes on`);
