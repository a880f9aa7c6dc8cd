// A class that keeps what it is told, says when its alarm rings, and stays on the line.
import { DurableObject } from "cloudflare:workers";

export class First extends DurableObject {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/add":
        this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS words (word TEXT)");
        this.ctx.storage.sql.exec("INSERT INTO words VALUES (?)", await request.text());
        break;
      case "/alarm":
        await this.ctx.storage.setAlarm(Date.now() + 200);
        break;
    }
    return Response.json({
      class: this.constructor.name,
      words: this.ctx.storage.sql.exec("SELECT count(*) AS n FROM sqlite_master WHERE name = 'words'").one().n
        ? this.ctx.storage.sql.exec("SELECT word FROM words").toArray().map((row) => row.word)
        : [],
      rang: await this.ctx.storage.get("rang") ?? 0,
    });
  }
  async alarm() {
    await this.ctx.storage.put("rang", (await this.ctx.storage.get("rang") ?? 0) + 1);
  }
}

export default {
  fetch: (request, env) => env.OBJECTS.get(env.OBJECTS.idFromName("one")).fetch(request),
};
