// Uses a database through drizzle-orm: inserts, returning, joins, an upsert, a batch, an aggregate, an error.
import { count, desc, eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { blob, integer, real, sqliteTable, text } from "drizzle-orm/sqlite-core";

const people = sqliteTable("people", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  name: text("name").notNull().unique(),
  score: real("score"),
  born: integer("born", { mode: "timestamp" }),
  alive: integer("alive", { mode: "boolean" }),
  raw: blob("raw", { mode: "buffer" }),
  tags: text("tags", { mode: "json" }),
});
const posts = sqliteTable("posts", { id: integer("id").primaryKey(), title: text("title").notNull(), author: integer("author").references(() => people.id) });

export default {
  async fetch(request, env) {
    const db = drizzle(env.DB, { schema: { people, posts } });
    await db.run(sql`CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, score REAL, born INTEGER, alive INTEGER, raw BLOB, tags TEXT)`);
    await db.run(sql`CREATE TABLE posts (id INTEGER PRIMARY KEY, title TEXT NOT NULL, author INTEGER REFERENCES people(id))`);
    const born = new Date("1815-12-10T00:00:00Z");
    const made = await db.insert(people).values([
      { name: "Ada", score: 1.5, born, alive: false, raw: Buffer.from([0, 255]), tags: ["a", { b: 1 }] },
      { name: "Bob", alive: true },
    ]).returning();
    const upsert = await db.insert(people).values({ name: "Bob", score: 7 }).onConflictDoUpdate({ target: people.name, set: { score: 7 } }).returning({ id: people.id, score: people.score });
    const batch = await db.batch([
      db.insert(posts).values({ id: 1, title: "one", author: 1 }),
      db.insert(posts).values({ id: 2, title: "two", author: 1 }),
      db.select().from(posts).orderBy(desc(posts.id)),
    ]);
    const joined = await db.select({ name: people.name, n: count(posts.id) }).from(people).leftJoin(posts, eq(posts.author, people.id)).groupBy(people.id).orderBy(people.id);
    const found = await db.query.people.findFirst({ where: eq(people.name, "Ada") });
    let refused;
    try {
      await db.insert(people).values({ name: "Ada" });
    } catch (e) {
      refused = `${e.message} ${e.cause?.message}`;
    }
    let undone;
    try {
      await db.batch([db.insert(posts).values({ id: 3, title: "three" }), db.insert(posts).values({ id: 1, title: "again" })]);
    } catch {
      undone = await db.$count(posts);
    }
    return Response.json({
      made: made.map((p) => [p.id, p.name, p.alive, p.score]), upsert, batch: batch[2].map((p) => p.title), joined,
      found: [found.born.toISOString(), found.raw.toString("hex"), found.tags], refused, undone,
    });
  },
};
