// The collector stands beside a traced script as its tail Worker and posts traces to the node.
//
// Traces of one invocation each would cost a request each, several times what they cost the script. So
// they gather in `lines`, which outlives invocations, and one of the invocations that come, the courier,
// waits a moment and posts what there is. Nothing here waits for the node but the courier, and what does
// not fit is dropped and counted: a script that logs faster than the node reads must not fill the memory.

const WAIT = 20; // milliseconds that the courier gives others to come
const BATCH = 512 * 1024; // characters that are posted at once
const ROOM = 4 * 1024 * 1024; // characters that may wait
const ITEM = 1024 * 1024; // characters of one trace; longer ones lose their logs
const PATIENCE = 5000; // milliseconds for a post
const PAUSE = 1000; // milliseconds without a courier when a post failed

let lines = []; // traces as JSON
let size = 0; // characters in lines
let lost = 0; // traces dropped since the node was told
let courierUntil = 0; // there is one at least until then

export default {
  async tail(events, env) {
    for (const event of events) add(event);
    if (Date.now() < courierUntil) return;
    await carry(env);
  },
};

function add(event) {
  let line;
  try {
    line = JSON.stringify(event);
    if (line.length > ITEM) line = JSON.stringify({ ...JSON.parse(line), logs: [], exceptions: [], truncated: true });
  } catch {
    lost++;
    return;
  }
  if (size + line.length > ROOM) {
    lost++;
    return;
  }
  lines.push(line);
  size += line.length;
}

async function carry(env) {
  let pause = 0;
  try {
    while (lines.length > 0 || lost > 0) {
      courierUntil = Date.now() + 2 * PATIENCE;
      if (size < BATCH) await scheduler.wait(WAIT);
      if (!(await post(env, take()))) {
        // The next one tries again, and not at once.
        pause = PAUSE;
        return;
      }
    }
  } finally {
    courierUntil = pause && Date.now() + pause;
  }
}

// take removes a batch from the front of lines.
function take() {
  let n = 0;
  let length = 0;
  while (n < lines.length && (n === 0 || length + lines[n].length <= BATCH)) length += lines[n++].length;
  size -= length;
  const batch = lines.slice(0, n);
  lines = lines.slice(n);
  return batch;
}

// post tells whether the node has taken the batch. The script must not notice if it has not.
async function post(env, batch) {
  const told = lost;
  try {
    const answer = await env.NODE.fetch("http://node/traces", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Selvage-Lost": String(told) },
      body: "[" + batch.join(",") + "]",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status === 204) {
      lost -= told;
      return true;
    }
  } catch {
    // Counted below.
  }
  lost += batch.length;
  return false;
}
