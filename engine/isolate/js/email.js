// What cloudflare:email is made of: the runtime leaves it to its host. Packages import it whether they send
// mail or not, so it must be there; who could take a message is not the engine's business.
class EmailMessage {
  #raw;
  constructor(from, to, raw) {
    if (typeof from !== "string" || typeof to !== "string") throw new TypeError("An EmailMessage has a sender and a recipient.");
    Object.defineProperties(this, { from: { value: from, enumerable: true }, to: { value: to, enumerable: true } });
    this.#raw = raw;
  }
  get raw() {
    return this.#raw;
  }
}

export default { EmailMessage };
