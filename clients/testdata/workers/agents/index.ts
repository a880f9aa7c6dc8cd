// The hello of the agents SDK: state that all clients see, a method they call, its own SQL, a schedule.
import { Agent, callable, type Connection, routeAgentRequest } from "agents";

type State = { greeted: string[]; woken?: string };

export class Hello extends Agent<Cloudflare.Env, State> {
  initialState: State = { greeted: [] };

  @callable()
  greet(name: string): string {
    this.sql`CREATE TABLE IF NOT EXISTS greetings (name TEXT)`;
    this.sql`INSERT INTO greetings VALUES (${name})`;
    this.setState({ ...this.state, greeted: [...this.state.greeted, name] });
    const [{ n }] = this.sql<{ n: number }>`SELECT count(*) AS n FROM greetings`;
    return `Hello ${name}, you are number ${n}`;
  }

  @callable()
  async later(word: string): Promise<void> {
    await this.schedule(1, "wake", word);
  }

  wake(word: string): void {
    this.setState({ ...this.state, woken: word });
  }

  onMessage(connection: Connection, message: string): void {
    connection.send(`echo ${message}`);
  }

  onRequest(): Response {
    return Response.json(this.state);
  }
}

export default {
  async fetch(request: Request, env: Cloudflare.Env): Promise<Response> {
    return (await routeAgentRequest(request, env)) ?? new Response("no agent there", { status: 404 });
  },
};
