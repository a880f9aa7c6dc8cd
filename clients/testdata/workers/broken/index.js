// Fails when it is started, not when it is bundled.
const settings = undefined;
export const name = settings.name;
export default { fetch: () => new Response("never") };
