// Called by others through service bindings.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

class Counter extends RpcTarget {
  #value;
  constructor(value) {
    super();
    this.#value = value;
  }
  add(n) {
    this.#value += n;
  }
  get value() {
    return this.#value;
  }
}

export class Maths extends WorkerEntrypoint {
  sum(...numbers) {
    return numbers.reduce((a, b) => a + b);
  }
  counter(start) {
    return new Counter(start);
  }
  async map(list, f) {
    return Promise.all(list.map((x) => f(x)));
  }
}

export default {
  async fetch(request) {
    return new Response(`callee heard ${request.method} ${new URL(request.url).pathname} ${await request.text()}`);
  },
};
