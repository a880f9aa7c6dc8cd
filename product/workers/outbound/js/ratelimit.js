// The ratelimit binding: env.NAME.limit({key}) resolves with {success}. It checks what the script
// passes and asks the node, which counts for the whole account.
const options = ["key", "limit", "period"];
const periods = [10, 60];

class RateLimit {
  #fetcher;

  constructor(fetcher) {
    this.#fetcher = fetcher;
  }

  async limit(input) {
    if (typeof input !== "object" || input === null) {
      throw new Error("invalid rate limit options");
    }
    const unknown = Object.keys(input).filter((name) => !options.includes(name));
    if (unknown.length > 0) {
      throw new Error(`bad rate limit options: [${unknown.join(",")}]`);
    }
    const { key = "", limit, period } = input;
    if (typeof key !== "string") {
      throw new Error(`invalid key: ${key}`);
    }
    if (limit !== undefined && typeof limit !== "number") {
      throw new Error(`limit must be a number: ${limit}`);
    }
    if (period !== undefined && !periods.includes(period)) {
      throw new Error(`unsupported period: ${period}`);
    }
    const response = await this.#fetcher.fetch("http://ratelimit/limit", {
      method: "POST",
      body: JSON.stringify({ key, limit, period }),
    });
    if (!response.ok) {
      throw new Error("the rate limit cannot be counted now");
    }
    return await response.json();
  }
}

export default function (env) {
  return new RateLimit(env.fetcher);
}
