// Stands before a program's main module when it is started once to see what it exports.
import * as main from "MAIN";
import { WorkerEntrypoint, DurableObject, WorkflowEntrypoint } from "cloudflare:workers";
export * from "MAIN";

const known = ["fetch", "scheduled", "queue", "tail", "tailStream", "email", "trace", "test", "connect", "alarm", "webSocketMessage", "webSocketClose", "webSocketError", "run"];
const derives = (f, base) => typeof f === "function" && base !== undefined && f.prototype instanceof base;
const isClass = (f) => typeof f === "function" && /^class\b/.test(Function.prototype.toString.call(f));

// handlers looks along the prototypes, since methods of classes stand there. It calls no getters.
function handlers(value) {
  const found = new Set();
  for (let o = typeof value === "function" ? value.prototype : value; o && o !== Object.prototype; o = Object.getPrototypeOf(o)) {
    for (const name of Object.getOwnPropertyNames(o)) {
      const d = Object.getOwnPropertyDescriptor(o, name);
      if (known.includes(name) && typeof d.value === "function") found.add(name);
    }
  }
  return known.filter((name) => found.has(name));
}

function kind(value) {
  if (derives(value, DurableObject)) return "object";
  if (derives(value, WorkflowEntrypoint)) return "workflow";
  if (derives(value, WorkerEntrypoint)) return "entrypoint";
  if (isClass(value)) return "object"; // classes of before DurableObject extend nothing
  if (value !== null && typeof value === "object" && handlers(value).length) return "entrypoint";
  return "other";
}

// The runtime would refuse such a main module, but here the probe's own default export hides it.
if ("default" in main && (main.default === null || !["object", "function"].includes(typeof main.default))) {
  throw new TypeError("Incorrect type for map entry 'default': the provided value is not of type 'function or ExportedHandler'.");
}

export default {
  fetch() {
    const named = Object.keys(main).filter((name) => name !== "default");
    return Response.json({
      Handlers: main.default === undefined || main.default === null ? [] : handlers(main.default),
      Named: named.map((name) => ({ Name: name, Kind: kind(main[name]), Handlers: main[name] ? handlers(main[name]) : [] })),
    });
  },
};
