// Uses a database through Prisma's adapter for D1. "generated" is made by `prisma generate`.
import { PrismaD1 } from "@prisma/adapter-d1";
import { PrismaClient } from "./generated/client";

export default {
  async fetch(request, env) {
    await env.DB.batch([
      env.DB.prepare(`CREATE TABLE "Person" ("id" INTEGER PRIMARY KEY AUTOINCREMENT, "name" TEXT NOT NULL UNIQUE, "score" REAL)`),
      env.DB.prepare(`CREATE TABLE "Post" ("id" INTEGER PRIMARY KEY AUTOINCREMENT, "title" TEXT NOT NULL, "authorId" INTEGER NOT NULL REFERENCES "Person"("id"))`),
    ]);
    const prisma = new PrismaClient({ adapter: new PrismaD1(env.DB) });
    const ada = await prisma.person.create({ data: { name: "Ada", score: 1.5, posts: { create: [{ title: "one" }, { title: "two" }] } }, include: { posts: true } });
    await prisma.person.createMany({ data: [{ name: "Bob" }, { name: "Cyd", score: 3 }] });
    await prisma.person.update({ where: { name: "Bob" }, data: { score: { increment: 0 } } });
    const upsert = await prisma.person.upsert({ where: { name: "Bob" }, update: { score: 7 }, create: { name: "Bob" } });
    const page = await prisma.person.findMany({ where: { score: { gt: 1 } }, orderBy: { score: "desc" }, select: { name: true, _count: { select: { posts: true } } } });
    const sum = await prisma.person.aggregate({ _sum: { score: true }, _count: true });
    let refused;
    try {
      await prisma.person.create({ data: { name: "Ada" } });
    } catch (e) {
      refused = e.code;
    }
    const raw = await prisma.$queryRaw`SELECT count(*) AS n FROM "Post" WHERE "authorId" = ${ada.id}`;
    return Response.json({ posts: ada.posts.map((p) => p.title), upsert, page, sum, refused, raw: raw.map((r) => Number(r.n)) });
  },
};
