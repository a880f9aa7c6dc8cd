// Asks a database one query after the other for so many milliseconds, and answers how many that were: at most
// 900, as a request has 1,000.
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const ms = Number(url.searchParams.get("ms") ?? 1000);
    if (url.pathname === "/setup") {
      await env.DB.exec("DROP TABLE IF EXISTS items");
      await env.DB.exec("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)");
      await env.DB.batch(Array.from({ length: 1000 }, (_, i) => env.DB.prepare("INSERT INTO items VALUES (?, ?)").bind(i, `item ${i} ${"x".repeat(80)}`)));
      return new Response("ready");
    }
    const first = env.DB.prepare("SELECT * FROM items WHERE id = ?");
    const insert = env.DB.prepare("INSERT INTO items (name) VALUES (?)");
    const asks = {
      "/first": async (i) => { if ((await first.bind(i % 1000).first()).id !== i % 1000) throw new Error("another row"); },
      "/run": async (i) => { if ((await insert.bind(`new ${i} ${"x".repeat(80)}`).run()).meta.changes !== 1) throw new Error("no row"); },
    }[url.pathname];
    const began = Date.now();
    let n = 0;
    for (; n < 900 && Date.now() - began < ms; n++) await asks(n);
    return Response.json({ n, ms: Date.now() - began });
  },
};
