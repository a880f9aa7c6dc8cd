// What a Worker must not do: each path does one of it.
const floods = {
  loop() {
    for (;;);
  },
  heap() {
    for (const all = []; ; ) all.push({ of: new Array(100).fill(all.length) });
  },
  buffer() {
    for (const all = []; ; ) all.push(new Uint8Array(1 << 24).fill(1));
  },
  wasm() {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
    for (;;) {
      const end = memory.grow(256);
      new Uint8Array(memory.buffer, end << 16).fill(1);
    }
  },
  array() {
    return new Array(1e9).fill(0).length;
  },
  json() {
    return JSON.parse("[" + "0,".repeat(40e6) + "0]").length;
  },
  timers() {
    const again = () => setTimeout(again, 1);
    for (let i = 0; i < 10000; i++) again();
    return new Promise(() => {});
  },
};

export default {
  async fetch(request) {
    const flood = floods[new URL(request.url).pathname.slice(1)];
    return new Response(flood ? String(await flood()) : "Hello World!");
  },
};
