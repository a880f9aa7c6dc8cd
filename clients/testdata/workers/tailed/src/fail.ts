export interface Wish {
  path: string;
}

export function failIfAsked(wish: Wish): void {
  if (wish.path === "/fail") {
    throw new TypeError(`no ${wish.path}`);
  }
}
