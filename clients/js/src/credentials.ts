// Who calls. At most one credential: the server reads only one.
//
//   apiKey            X-API-Key             for servers: a page must not have it
//   token: "pat_…"    ?token=               reads the runs it was made for, from a browser
//   token: a JWT      Authorization: Bearer
//   getToken          either, asked for at the first call and again when it was refused or expired

export type GetToken = (why: {
  /** `first`: none yet. `refused`: a 401. `expired`: a stream said so. */
  readonly reason: "first" | "refused" | "expired";
  readonly signal: AbortSignal | undefined;
}) => string | Promise<string>;

/** What a request carries. */
export interface Credential {
  readonly header?: readonly [name: string, value: string];
  readonly query?: string;
}

export function credentialOf(token: string): Credential {
  if (token.startsWith("pat_")) return { query: token };
  return { header: ["Authorization", `Bearer ${token}`] };
}

/** What requests ask of whoever holds the credential. */
export interface Renewing {
  /** Whether a refused credential can be replaced. */
  readonly renewable: boolean;
  current(signal: AbortSignal | undefined): Promise<Credential>;
  /** Return another credential than `used`. */
  renew(used: Credential, reason: "refused" | "expired", signal: AbortSignal | undefined): Promise<Credential>;
}

/** One that stays as it is. */
export function fixed(token: string | undefined): Renewing {
  const now = async (): Promise<Credential> => (token === undefined ? {} : credentialOf(token));
  return { renewable: false, current: now, renew: now };
}

/** The credential of one client, renewed when it can be. */
export class Credentials implements Renewing {
  readonly #get: GetToken | undefined;
  #now: Credential | undefined;
  #renewal: Promise<Credential> | undefined;

  constructor(given: {
    apiKey?: string | undefined;
    token?: string | undefined;
    getToken?: GetToken | undefined;
  }) {
    const names = (["apiKey", "token", "getToken"] as const).filter((n) => given[n] !== undefined);
    if (names.length > 1) {
      throw new TypeError(`give one of ${names.join(", ")}: the server reads only one`);
    }
    this.#get = given.getToken;
    if (given.apiKey !== undefined) this.#now = { header: ["X-API-Key", given.apiKey] };
    else if (given.token !== undefined) this.#now = credentialOf(given.token);
    else if (given.getToken === undefined) this.#now = {};
  }

  /** Whether a refused credential can be replaced. */
  get renewable(): boolean {
    return this.#get !== undefined;
  }

  /** Whether there is nothing to send: cookies, an adapter with the key, or a server without one. */
  get none(): boolean {
    return this.#get === undefined && this.#now?.header === undefined && this.#now?.query === undefined;
  }

  async current(signal: AbortSignal | undefined): Promise<Credential> {
    return this.#now ?? this.#renew("first", signal);
  }

  /** Return another credential than `used`; many calls that fail at once ask for it once. */
  async renew(used: Credential, reason: "refused" | "expired", signal: AbortSignal | undefined): Promise<Credential> {
    if (this.#now !== undefined && this.#now !== used) return this.#now;
    return this.#renew(reason, signal);
  }

  #renew(reason: "first" | "refused" | "expired", signal: AbortSignal | undefined): Promise<Credential> {
    const get = this.#get;
    if (get === undefined) throw new TypeError("this credential cannot be renewed");
    this.#renewal ??= (async () => {
      try {
        this.#now = credentialOf(await get({ reason, signal }));
        return this.#now;
      } finally {
        this.#renewal = undefined;
      }
    })();
    return this.#renewal;
  }
}
