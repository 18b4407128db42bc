// Next.js, `app/api/stepflow/[...path]/route.ts`:
//
//   export const dynamic = "force-dynamic";
//   export const { GET, HEAD, POST, PUT, PATCH, DELETE } = createStepflowRoute({ url, apiKey });
//
// Below another path, `basePath` says which, without the `basePath` of next.config: Next.js takes that off. Methods that no route has are exported, too, so that what
// answers them is not an empty page of Next's.

import { createStepflowHandler, type HandlerOptions } from "./handler.js";

type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";

/** Return the route's methods. */
export function createStepflowRoute(
  options: HandlerOptions,
): Record<Method, (request: Request, context?: unknown) => Promise<Response>> {
  const handler = createStepflowHandler({ basePath: "/api/stepflow", ...options });
  const route = (request: Request, context?: unknown): Promise<Response> => handler(request, context);
  return { GET: route, HEAD: route, POST: route, PUT: route, PATCH: route, DELETE: route };
}
