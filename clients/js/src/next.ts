// Next.js, `app/api/stepflow/[...path]/route.ts`:
//
//   export const dynamic = "force-dynamic";
//   export const { GET, POST, DELETE } = createStepflowRoute({ url, apiKey, basePath: "/api/stepflow" });

import { createStepflowHandler, type HandlerOptions, type StepflowHandler } from "./handler.js";

/** Return the route's methods. */
export function createStepflowRoute(
  options: HandlerOptions,
): Record<"GET" | "HEAD" | "POST" | "DELETE", (request: Request, context?: unknown) => Promise<Response>> {
  const handler: StepflowHandler = createStepflowHandler({ basePath: "/api/stepflow", ...options });
  return { GET: handler, HEAD: handler, POST: handler, DELETE: handler };
}
