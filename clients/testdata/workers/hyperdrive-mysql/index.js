// The Worker of the test of MySQL by Hyperdrive: npm's mysql2, unchanged.
import { createConnection } from "mysql2/promise";

const open = (env, more) =>
  createConnection({
    host: env.DB.host, port: env.DB.port, user: env.DB.user, password: env.DB.password, database: env.DB.database,
    disableEval: true, ...more,
  });

const pages = {
  "/query": async (c) => (await c.query("SELECT 'mysql2' AS who, 40 + 2 AS sum"))[0],
  "/prepared": async (c) => {
    const sums = [];
    for (const n of [1, 2, 3]) sums.push((await c.execute("SELECT ? + ? AS sum", [n, n]))[0][0].sum);
    return sums;
  },
  "/transaction": async (c) => {
    await c.query("CREATE TABLE IF NOT EXISTS visits (id INT PRIMARY KEY AUTO_INCREMENT, page VARCHAR(50))");
    await c.beginTransaction();
    await c.execute("INSERT INTO visits (page) VALUES (?)", ["lost"]);
    await c.rollback();
    await c.beginTransaction();
    const [result] = await c.execute("INSERT INTO visits (page) VALUES (?)", ["kept"]);
    await c.commit();
    return [result.affectedRows, (await c.query("SELECT DISTINCT page FROM visits"))[0].map((row) => row.page)];
  },
  "/error": async (c) => {
    try {
      await c.query("SELECT nothing FROM nowhere");
    } catch (e) {
      return [e.code, (await c.query("SELECT 1 AS one"))[0][0].one];
    }
  },
  "/large": async (c) => (await c.query("SELECT REPEAT('x', 3000000) AS text"))[0][0].text.length,
};

export default {
  async fetch(request, env) {
    const page = pages[new URL(request.url).pathname];
    const connection = await open(env);
    try {
      return Response.json(await page(connection));
    } finally {
      await connection.end();
    }
  },
};
