import wrong from "./wrong.mjs";
export default { fetch: () => new Response(wrong) };
