import pg from "pg";
import postgres from "postgres";

// with hands a connected client of the npm package pg to f, as people do it in Workers.
async function withPG(env, f) {
  const client = new pg.Client({ connectionString: env.DB.connectionString });
  await client.connect();
  try {
    return await f(client);
  } finally {
    await client.end();
  }
}

async function withPostgres(env, f) {
  const sql = postgres(env.DB.connectionString, { max: 5, fetch_types: false });
  try {
    return await f(sql);
  } finally {
    await sql.end();
  }
}

const pages = {
  "/login": (env) => ({ user: env.DB.user, database: env.DB.database, port: env.DB.port, password: env.DB.password.length, host: env.DB.host.endsWith(".hyperdrive.local") }),
  "/secrets": (env) => JSON.stringify([env.DB.connectionString, env.DB.user, env.DB.password, env.DB.database]),
  "/pg": (env) => withPG(env, async (c) => (await c.query("SELECT $1::text AS who, 40 + $2::int AS sum", ["pg", 2])).rows),
  "/pg-fields": (env) => withPG(env, async (c) => {
    const c2 = new pg.Client({ host: env.DB.host, port: env.DB.port, user: env.DB.user, password: env.DB.password, database: env.DB.database });
    await c2.connect();
    const { rows } = await c2.query("SELECT 'fields' AS how");
    await c2.end();
    return rows;
  }),
  "/pg-named": (env) => withPG(env, async (c) => {
    const out = [];
    for (let i = 0; i < 3; i++) out.push((await c.query({ name: "twice", text: "SELECT 2 * $1::int AS n", values: [i] })).rows[0].n);
    return out;
  }),
  "/pg-tx": (env) => withPG(env, async (c) => {
    await c.query("BEGIN");
    await c.query("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text)");
    await c.query("INSERT INTO notes (text) VALUES ($1)", ["kept"]);
    await c.query("COMMIT");
    await c.query("BEGIN");
    await c.query("INSERT INTO notes (text) VALUES ('lost')");
    await c.query("ROLLBACK");
    return (await c.query("SELECT text FROM notes ORDER BY id")).rows.map((r) => r.text);
  }),
  "/pg-error": (env) => withPG(env, async (c) => {
    try {
      await c.query("SELECT * FROM nowhere");
    } catch (e) {
      return [e.code, (await c.query("SELECT 'after' AS x")).rows[0].x];
    }
  }),
  "/postgres": (env) => withPostgres(env, async (sql) => [...(await sql`SELECT ${"postgres"} AS who, 40 + ${2}::int AS sum`)]),
  "/postgres-tx": (env) => withPostgres(env, async (sql) => {
    const [{ n }] = await sql.begin(async (tx) => {
      await tx`CREATE TABLE IF NOT EXISTS points (n int)`;
      await tx`INSERT INTO points ${tx([{ n: 1 }, { n: 2 }, { n: 3 }])}`;
      return tx`SELECT sum(n)::int AS n FROM points`;
    });
    const many = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map((i) => sql`SELECT ${i}::int AS i`));
    await sql`DROP TABLE points`;
    return [n, many.map((r) => r[0].i)];
  }),
  "/large": (env) => withPG(env, async (c) => (await c.query("SELECT repeat('x', 3000000) AS x")).rows[0].x.length),
};

export default {
  async fetch(request, env) {
    const page = pages[new URL(request.url).pathname];
    if (!page) return new Response("no such page", { status: 404 });
    try {
      return Response.json(await page(env));
    } catch (e) {
      return new Response(`${e.code} ${e.stack}`, { status: 500 });
    }
  },
};
